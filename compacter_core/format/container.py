"""The safetensors container: an 8-byte little-endian length, a JSON header, then the tensors' bytes.

The header comes from strangers, so everything it claims is checked before anything is allocated for a tensor. The
checks are stricter than those of the stock reader, which lets duplicate metadata keys, foreign entry fields and odd
names pass.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from compacter_core.adapter import DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.cursor import Cursor, shortest_length
from compacter_core.format.metadata import METADATA, read_metadata
from compacter_core.format.strict_json import Rules

MAX_HEADER: Final = 16 * 2**20
MAX_TENSORS: Final = 65_536
MAX_NAME: Final = 512
MAX_ENTRY: Final = 2**14
"""Longest text of what the header says of one tensor; 150 bytes are enough."""

MAX_RANK: Final = 4
MAX_DIMENSION: Final = 2**31 - 1
PREFIX: Final = 8
"""Bytes before the header: its length."""

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_ZIP = b"PK\x03\x04"
_RULES = Rules("the header", MAX_HEADER, too_large=ErrorCode.E103, malformed=ErrorCode.E103)
_FIELDS = ("dtype", "shape", "data_offsets")

_DTYPES: Final = [*DType]
_ITEM_SIZE: Final = {DType.F64: 8, DType.F32: 4, DType.F16: 2, DType.BF16: 2}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Type and shape of a tensor, without its values."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of scalars."""
        return prod(self.shape)

    @property
    def item_size(self) -> int:
        """Bytes of one scalar in the file."""
        return _ITEM_SIZE[self.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.elements * self.item_size


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of the header: what it is, and its bytes [begin, end) counted from the end of the header."""

    info: TensorInfo
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header.

    Args:
        metadata: the raw texts of this format's keys, for `metadata_text`. Those of other tools are not kept.
        entries: tensors by name, in the order of their bytes.
        data_start: the file position that the entries' offsets count from.
    """

    metadata: Mapping[str, bytes]
    entries: Mapping[str, Entry]
    data_start: int


def header_end(start: bytes, size: int) -> int:
    """Where the header of a file ends, which begins with `start` and has `size` bytes.

    Args:
        start: at least the first nine bytes of the file, or all of it.
        size: length of the whole file.

    Raises:
        CompacterError: E101, E102 or E112.
    """
    _refuse_other_formats(start[: PREFIX + 1])
    if size < PREFIX:
        raise CompacterError(ErrorCode.E101, "the file is too short to be one", value=size, expected="8 bytes or more")
    length = int.from_bytes(start[:PREFIX], "little")
    if length > MAX_HEADER:
        raise CompacterError(
            ErrorCode.E102,
            "the header is too long, or this is not a safetensors file",
            value=length,
            expected=f"at most {MAX_HEADER} bytes",
        )
    if PREFIX + length > size:
        raise CompacterError(
            ErrorCode.E101,
            "the file ends inside its header",
            value=size,
            expected=f"{PREFIX + length} bytes or more",
            remedy="Copy or download the file again.",
        )
    return PREFIX + length


def parse_header(data: bytes, *, size: int | None = None) -> Header:
    """The header of a safetensors file, checked.

    Args:
        data: the file's bytes, or its first ones: at least the whole header.
        size: length of the whole file, if `data` is only the beginning of it.

    Raises:
        CompacterError: E101 to E112.
    """
    total = len(data) if size is None else size
    end = header_end(data, min(total, len(data)))
    if data[PREFIX : min(PREFIX + 1, end)] != b"{":
        raise CompacterError(
            ErrorCode.E103, "the header does not begin with a JSON object", value=data[PREFIX : min(PREFIX + 16, end)]
        )
    cursor = Cursor(data, PREFIX, end, _RULES)
    metadata: dict[str, bytes] | None = None
    entries: dict[str, Entry] = {}
    for raw in cursor.members():
        if shortest_length(raw) > MAX_NAME:
            raise CompacterError(ErrorCode.E108, "a tensor name is too long", expected=f"at most {MAX_NAME} bytes")
        name = str(cursor.decode(raw))
        if name in entries or (name == METADATA and metadata is not None):
            raise CompacterError(ErrorCode.E104, "the header has a duplicate key", value=name)
        if name == METADATA:
            metadata = read_metadata(cursor)
        elif len(entries) == MAX_TENSORS:
            raise CompacterError(ErrorCode.E108, "too many tensors", expected=f"at most {MAX_TENSORS}")
        else:
            entries[name] = _entry(name, cursor)
    cursor.finish()
    entries = dict(sorted(entries.items(), key=lambda item: item[1].begin))
    _check_tiling(entries, total - end)
    return Header(metadata=metadata or {}, entries=entries, data_start=end)


def header_bytes(metadata: Mapping[str, str], infos: Iterable[tuple[str, TensorInfo]]) -> bytes:
    """Length and header of a file whose tensors follow each other without gaps in the given order.

    The JSON is minified, metadata comes first with sorted keys, and spaces pad it to a multiple of 8 bytes, so that the
    widest tensors, which canonical files have first, are aligned.

    Raises:
        CompacterError: E102, E107, E108, E109.
    """
    fields: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))}
    end = 0
    for name, info in infos:
        begin, end = end, end + info.nbytes
        _check_name(name)
        _shape(name, list(info.shape))
        fields[name] = {"dtype": info.dtype.value, "shape": info.shape, "data_offsets": (begin, end)}
    if len(fields) - 1 > MAX_TENSORS:
        raise CompacterError(
            ErrorCode.E108, "too many tensors", value=len(fields) - 1, expected=f"at most {MAX_TENSORS}"
        )
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise CompacterError(
            ErrorCode.E102, "the header would be too long", value=len(text), expected=f"at most {MAX_HEADER} bytes"
        )
    return len(text).to_bytes(PREFIX, "little") + text


def _refuse_other_formats(start: bytes) -> None:
    # A safetensors file may begin with a pickle's two bytes too, but then "{" stands at byte 8.
    if start.startswith(_ZIP) or (_PICKLE.match(start) and start[PREFIX:] != b"{"):
        raise CompacterError(
            ErrorCode.E112,
            "the file is a pickle or a zip archive, as torch.save writes, and reading those can run code",
            value=start,
            expected="a safetensors file",
            remedy="Convert it with a tool you trust, in the environment that wrote it.",
        )


def _entry(name: str, cursor: Cursor) -> Entry:
    _check_name(name)
    text = cursor.value(MAX_ENTRY)
    value = None if text is None else cursor.decode(text)
    if not isinstance(value, dict) or sorted(value) != sorted(_FIELDS):
        raise CompacterError(
            ErrorCode.E111,
            f"fields of tensor {name}",
            value=sorted(value) if isinstance(value, dict) else value,
            expected="exactly " + ", ".join(_FIELDS),
        )
    if value["dtype"] not in _DTYPES:
        raise CompacterError(
            ErrorCode.E110, f"data type of tensor {name}", value=value["dtype"], expected=", ".join(DType)
        )
    info = TensorInfo(DType(value["dtype"]), _shape(name, value["shape"]))
    begin, end = _offsets(name, value["data_offsets"])
    if end - begin != info.nbytes:
        raise CompacterError(
            ErrorCode.E106, f"bytes of tensor {name}", value=end - begin, expected=f"{info.nbytes} for its shape"
        )
    return Entry(info, begin, end)


def _check_name(name: str) -> None:
    if len(name.encode(errors="surrogatepass")) > MAX_NAME:
        raise CompacterError(ErrorCode.E108, "a tensor name is too long", value=name, expected=f"{MAX_NAME} bytes")
    if not _NAME.fullmatch(name):
        raise CompacterError(
            ErrorCode.E109, "a tensor name", value=name, expected="words of [A-Za-z0-9_-] separated by dots"
        )


def _shape(name: str, value: object) -> tuple[int, ...]:
    if (
        not isinstance(value, list)
        or len(value) > MAX_RANK
        or not all(type(size) is int and 1 <= size <= MAX_DIMENSION for size in value)
    ):
        raise CompacterError(
            ErrorCode.E107,
            f"shape of tensor {name}",
            value=value,
            expected=f"at most {MAX_RANK} dimensions from 1 to {MAX_DIMENSION}",
        )
    return tuple(value)


def _offsets(name: str, value: object) -> tuple[int, int]:
    if (
        not isinstance(value, list)
        or len(value) != len(("begin", "end"))
        or not all(type(offset) is int for offset in value)
        or not 0 <= value[0] <= value[1]
    ):
        raise CompacterError(ErrorCode.E105, f"data_offsets of tensor {name}", value=value, expected="[begin, end]")
    return value[0], value[1]


def _check_tiling(entries: Mapping[str, Entry], available: int) -> None:
    """The tensors cover the bytes after the header exactly once."""
    position = 0
    for name, entry in entries.items():
        if entry.begin != position:
            what = "overlaps the one before" if entry.begin < position else "leaves a gap before it"
            raise CompacterError(
                ErrorCode.E105, f"tensor {name} {what}", value=entry.begin, expected=f"begin = {position}"
            )
        position = entry.end
    if position > available:
        raise CompacterError(
            ErrorCode.E101,
            "the file ends inside its tensors",
            value=available,
            expected=f"{position} bytes after the header",
            remedy="Copy or download the file again.",
        )
    if position < available:
        raise CompacterError(ErrorCode.E105, "bytes after the last tensor", value=available - position, expected="none")
