"""Adapter files put together byte by byte, right or wrong, without the reader and writer that they test.

Only the standard library is used: `struct` for values, `json` for texts.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final, Self

JsonObject = dict[str, Any]

VERSION_KEY: Final = "compacter.spec_version"
CONFIG_KEY: Final = "compacter.config"
PREFIX: Final = 8
ITEM_SIZE: Final[Mapping[str, int]] = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}

_FORMAT: Final[Mapping[str, str]] = {"F64": "d", "F32": "f", "F16": "e"}


@dataclass(frozen=True, slots=True)
class RawTensor:
    """A tensor as a file has it: three fields that need not agree."""

    dtype: str
    shape: tuple[Any, ...]
    data: bytes

    @classmethod
    def of(cls, dtype: str, shape: Sequence[int], values: Iterable[float]) -> Self:
        """Values that `dtype` holds exactly, row-major.

        Raises:
            ValueError: for a value that is not held exactly, or a number of values that the shape does not have.
        """
        listed = [float(value) for value in values]
        if len(listed) != prod(shape):
            raise ValueError(f"{len(listed)} values for the shape {tuple(shape)}")
        return cls(dtype, tuple(shape), pack(dtype, listed))

    @property
    def sha256(self) -> str:
        """Digest of the bytes (CNF-5)."""
        return hashlib.sha256(self.data).hexdigest()


def pack(dtype: str, values: Sequence[float]) -> bytes:
    """Little-endian bytes of values that `dtype` holds exactly.

    Raises:
        ValueError: for a value that it does not hold.
    """
    data = b"".join(_one(dtype, value) for value in values)
    if unpack(dtype, data) != list(values):
        raise ValueError(f"values that {dtype} does not hold")
    return data


def unpack(dtype: str, data: bytes) -> list[float]:
    """The values of little-endian bytes."""
    if dtype == "BF16":
        return [struct.unpack("<f", b"\0\0" + data[i : i + 2])[0] for i in range(0, len(data), 2)]
    return [value for (value,) in struct.iter_unpack("<" + _FORMAT[dtype], data)]


def _one(dtype: str, value: float) -> bytes:
    if dtype == "BF16":
        return struct.pack("<f", value)[2:]
    return struct.pack("<" + _FORMAT[dtype], value)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A file that is too large to be stored: its bytes as segments, each a text or hexadecimal bytes, repeated.

    Args:
        segments: what `{"segments": [...]}` holds (conformance, suite).
    """

    segments: tuple[JsonObject, ...]

    def json(self) -> bytes:
        """The recipe's own file."""
        return (json.dumps({"segments": list(self.segments)}, indent=1, ensure_ascii=False) + "\n").encode()


def text(value: str, times: int = 1) -> JsonObject:
    """A segment of UTF-8 text."""
    return {"text": value} if times == 1 else {"text": value, "times": times}


def counted(value: str, times: int, counters: Sequence[tuple[int, int]]) -> JsonObject:
    """A segment of text with numbers that grow from one repetition to the next."""
    return {"text": value, "times": times, "counters": [list(counter) for counter in counters]}


def raw(value: bytes, times: int = 1) -> JsonObject:
    """A segment of bytes."""
    return {"hex": value.hex()} if times == 1 else {"hex": value.hex(), "times": times}


def length_field(length: int) -> bytes:
    """The first eight bytes of a file."""
    return struct.pack("<Q", length)


def assemble(header: str | bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A file of a header's text and a body; `length` lies about the header's length."""
    encoded = header.encode("utf-8", errors="surrogatepass") if isinstance(header, str) else header
    return length_field(len(encoded) if length is None else length) + encoded + body


def minified(value: object, *, sort_keys: bool = False) -> str:
    """JSON without spaces, every character as itself."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=sort_keys)


def header_of(metadata: Mapping[str, Any] | None, tensors: Mapping[str, RawTensor]) -> tuple[JsonObject, bytes]:
    """Header and body of tensors that follow each other in the order of the mapping; no metadata if None."""
    header: JsonObject = {} if metadata is None else {"__metadata__": dict(metadata)}
    position = 0
    for name, tensor in tensors.items():
        end = position + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    return header, b"".join(tensor.data for tensor in tensors.values())


def container(metadata: Mapping[str, Any] | None, tensors: Mapping[str, RawTensor]) -> bytes:
    """A safetensors file with the tensors in the order of the mapping, its header padded to a multiple of 8."""
    header, body = header_of(metadata, tensors)
    return assemble(padded(minified(header)), body)


def padded(header: str) -> bytes:
    """A header followed by as many spaces as make it a multiple of 8 bytes."""
    encoded = header.encode()
    return encoded + b" " * (-len(encoded) % PREFIX)


def canonical_order(tensors: Mapping[str, RawTensor]) -> dict[str, RawTensor]:
    """Tensors by descending item size, then by name."""
    return dict(sorted(tensors.items(), key=lambda item: (-ITEM_SIZE[item[1].dtype], item[0])))


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFile:
    """An adapter file as its parts; the methods give changed copies.

    Args:
        config: the configuration, or a text that stands in its place.
        tensors: by name, in the order of the file.
        metadata: what the file's metadata has besides the configuration and its version.
        version: the metadata's version.
    """

    config: JsonObject | str
    tensors: Mapping[str, RawTensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    version: str | None = "1.0"

    @property
    def config_text(self) -> str:
        """The configuration's text."""
        return self.config if isinstance(self.config, str) else minified(self.config, sort_keys=True)

    @property
    def all_metadata(self) -> JsonObject:
        """The file's metadata, keys sorted."""
        own: JsonObject = {CONFIG_KEY: self.config_text}
        if self.version is not None:
            own[VERSION_KEY] = self.version
        return dict(sorted({**own, **self.metadata}.items()))

    def encoded(self) -> bytes:
        """The file, its tensors in the order of the mapping."""
        return container(self.all_metadata, self.tensors)

    def parts(self) -> tuple[JsonObject, bytes]:
        """Header and body, to be changed and assembled again."""
        return header_of(self.all_metadata, self.tensors)

    def value(self) -> JsonObject:
        """What reading the file answers (CNF-5)."""
        config = json.loads(self.config) if isinstance(self.config, str) else self.config
        tensors = {
            name: {"dtype": tensor.dtype, "shape": list(tensor.shape), "sha256": tensor.sha256}
            for name, tensor in self.tensors.items()
        }
        return {"config": config, "tensors": tensors}
