"""Read the tensors of other libraries' checkpoints without trusting them: safetensors, pickles, and indices of shards.

What a file is, its first bytes decide, not its name. A pickle is a program: it is read only if the caller says so, and
then by torch's restricted reader (`compacter_core.importers.pickles`).
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open

from compacter_core.adapter import Array, DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.codec import decode
from compacter_core.format.container import PREFIX, TensorInfo
from compacter_core.format.source import open_source
from compacter_core.format.strict_json import Rules, parse_object, parse_value
from compacter_core.importers.pickles import read_pickle
from compacter_core.importers.stored import StoredTensor, StoredTensors

INDEX_SUFFIX: Final = ".index.json"

_MAX_INDEX: Final = 16 * 2**20
_SHARD = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_INTEGERS: Final = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}


def read_state(path: Path | str, *, allow_pickle: bool = False) -> StoredTensors:
    """The tensors of a checkpoint: a safetensors file, a file of `torch.save`, or the index of such files' shards.

    Tensors are read when they are asked for; files are mapped into memory where their format allows it.

    Args:
        path: of the file; an index ends in `.index.json`, and its shards are beside it.
        allow_pickle: read pickles too. Only for files from a source you trust: torch reads them with `weights_only`,
            which calls nothing but constructors of tensors, but holes have been found in it before.

    Raises:
        CompacterError: E005 if a file cannot be read; E112 for a pickle without `allow_pickle`; E004 if torch is
            needed and is missing or older than 2.10; E501 for a file that is damaged, hostile, or holds anything but
            tensors; E301 for a tensor that the index names and its shard lacks; E003 for a type that NumPy cannot hold.
    """
    file = Path(path)
    return _read_index(file, allow_pickle) if file.name.endswith(INDEX_SUFFIX) else _read_file(file, allow_pickle)


def find_file(directory: Path | str, names: Iterable[str]) -> Path | None:
    """The first of these files that the directory has, or the first one's index of shards; None if it has none."""
    folder = Path(directory)
    candidates = (folder / found for name in names for found in (name, f"{name}{INDEX_SUFFIX}"))
    return next((file for file in candidates if file.is_file()), None)


def read_weights(directory: Path, names: Iterable[str], *, allow_pickle: bool) -> StoredTensors:
    """The tensors of the first of these files that the directory has.

    Raises:
        CompacterError: E501 if it has none of them; as `read_state`.
    """
    names = tuple(names)
    file = find_file(directory, names)
    if file is None:
        raise CompacterError(
            ErrorCode.E501,
            "the directory has no weights",
            value=str(directory),
            expected=" or ".join(names),
            remedy="Give the directory that the other library saved the adapter in.",
        )
    return read_state(file, allow_pickle=allow_pickle)


def _read_file(file: Path, allow_pickle: bool) -> StoredTensors:
    with open_source(file) as source:
        start = source.peek(PREFIX + 1)
    if start[PREFIX:] == b"{":
        return _read_safetensors(file)
    if not allow_pickle:
        raise CompacterError(
            ErrorCode.E112,
            f"{file.name} may be a pickle, as torch.save writes, and reading those can run code",
            value=start,
            expected="a safetensors file",
            remedy="If you trust where it comes from, allow pickles (--allow-pickle, allow_pickle=True): torch then "
            "reads it with weights_only, in which holes have been found before.",
        )
    return read_pickle(file)


def _read_safetensors(file: Path) -> StoredTensors:
    """The header is checked by the safetensors library; the values are views of the file in memory."""
    try:
        with safe_open(file, "numpy") as checked:
            keys = set(checked.keys())
        content = np.memmap(file, dtype=np.uint8, mode="r")
        end = PREFIX + int.from_bytes(content[:PREFIX].tobytes(), "little")
        rules = Rules("the header", end, too_large=ErrorCode.E501, malformed=ErrorCode.E501)
        header = parse_value(content[PREFIX:end].tobytes().decode(), rules)
    except (SafetensorError, OSError, ValueError) as error:
        raise CompacterError(
            ErrorCode.E501,
            f"damaged safetensors file ({error})",
            value=file.name,
            remedy="Copy or download it again.",
        ) from error
    entries = {key: entry for key, entry in header.items() if key in keys}
    return StoredTensors(file.name, {key: _stored(key, entry, content[end:]) for key, entry in entries.items()})


def _stored(key: str, entry: dict[str, Any], data: Array) -> StoredTensor:
    begin, end = entry["data_offsets"]
    raw, shape, name = data[begin:end], tuple(entry["shape"]), entry["dtype"]
    if name in list(DType):
        info = TensorInfo(DType(name), shape)
        return StoredTensor(shape, info.dtype, lambda: decode(raw.data, info))
    if name in _INTEGERS:
        return StoredTensor(shape, None, lambda: raw.view(_INTEGERS[name]).reshape(shape))
    raise CompacterError(ErrorCode.E003, f"data type of {key}", value=name, expected=", ".join([*DType, *_INTEGERS]))


def _read_index(file: Path, allow_pickle: bool) -> StoredTensors:
    places = _weight_map(file)
    shards = {name: _read_file(file.parent / name, allow_pickle) for name in sorted(set(places.values()))}
    for name, shard in shards.items():
        unlisted = [key for key in shard if places.get(key) != name]
        if unlisted:
            raise CompacterError(
                ErrorCode.E501, f"{name} has tensors that {file.name} does not list there", value=unlisted[:8]
            )
    for key, name in places.items():
        if key not in shards[name]:
            raise CompacterError(
                ErrorCode.E301, f"{name} lacks {key}, which {file.name} lists", remedy="Download the checkpoint again."
            )
    return StoredTensors(file.name, {key: shards[name].stored(key) for key, name in places.items()})


def _weight_map(file: Path) -> dict[str, str]:
    """Key to shard. Shards are plain names, so that an index cannot reach other folders."""
    with open_source(file) as source:
        data = source.peek(_MAX_INDEX + 1)
    rules = Rules(file.name, _MAX_INDEX, too_large=ErrorCode.E501, malformed=ErrorCode.E501)
    places = parse_object(data.decode(errors="replace"), rules).get("weight_map")
    names = places.values() if isinstance(places, dict) else [places]
    for name in names:
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise CompacterError(
                ErrorCode.E501,
                f"weight_map of {file.name}",
                value=name,
                expected="an object from keys to plain names of files beside the index",
            )
    return dict(places) if isinstance(places, dict) else {}
