"""The safetensors container, read from bytes with every claim of its header checked (FMT)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from mmap import mmap
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from examples.jax.rejection import Rejection
from examples.jax.strict_json import parse_object

PREFIX = 8
"""Bytes of the length field."""

MAX_HEADER = 16 * 2**20
MAX_TENSORS = 65_536
MAX_NAME_BYTES = 512
MAX_RANK = 4
MAX_DIMENSION = 2**31 - 1
TYPES = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}

_PICKLE = re.compile(rb"\x80[\2-\5]")
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of the header; its bytes are [begin, end) after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Container:
    """A checked file: metadata, tensor table, and the bytes of the tensors."""

    metadata: Mapping[str, str]
    entries: Mapping[str, Entry]
    body: memoryview

    def raw(self, name: str) -> memoryview:
        """A tensor's bytes."""
        return self.body[self.entries[name].begin : self.entries[name].end]

    def array(self, name: str) -> NDArray[Any]:
        """A tensor."""
        entry = self.entries[name]
        return np.frombuffer(self.raw(name), TYPES[entry.dtype]).reshape(entry.shape)


def parse(data: bytes | mmap) -> Container:
    """The container in `data`.

    Raises:
        Rejection: E101 to E112.
    """
    if data[:4] == b"PK\x03\x04" or (_PICKLE.match(data[:2]) and data[PREFIX : PREFIX + 1] != b"{"):
        raise Rejection("E112", "a pickle or a zip archive")
    if len(data) < PREFIX:
        raise Rejection("E101", "shorter than its length field")
    length = int.from_bytes(data[:PREFIX], "little")
    if length > MAX_HEADER:
        raise Rejection("E102", f"header of {length} bytes")
    if PREFIX + length > len(data):
        raise Rejection("E101", "ends inside its header")
    try:
        text = data[PREFIX : PREFIX + length].decode()
    except UnicodeDecodeError as error:
        raise Rejection("E103", "the header is not UTF-8") from error
    if not text.startswith("{"):
        raise Rejection("E103", "the header does not begin with {")
    fields = parse_object(text, malformed="E103", limit="E103")
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Rejection("E103", "__metadata__ is not an object of strings")
    if len(fields) > MAX_TENSORS:
        raise Rejection("E108", f"{len(fields)} tensors")
    entries = {name: _entry(name, value) for name, value in fields.items()}
    body = memoryview(data)[PREFIX + length :]
    _check_cover(entries, len(body))
    return Container(metadata, entries, body)


def _entry(name: str, value: object) -> Entry:
    if len(name.encode(errors="surrogatepass")) > MAX_NAME_BYTES:
        raise Rejection("E108", "tensor name too long")
    if not _NAME.fullmatch(name):
        raise Rejection("E109", "tensor name")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise Rejection("E111", f"fields of {name}")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in TYPES:
        raise Rejection("E110", f"type of {name}")
    if not _are_integers(shape, 1, MAX_DIMENSION) or len(shape) > MAX_RANK:
        raise Rejection("E107", f"shape of {name}")
    if not _are_integers(offsets, 0, 2**53) or len(offsets) != len(("begin", "end")) or offsets[0] > offsets[1]:
        raise Rejection("E105", f"data_offsets of {name}")
    begin, end = offsets
    if end - begin != prod(shape) * TYPES[dtype].itemsize:
        raise Rejection("E106", f"bytes of {name}")
    return Entry(dtype, tuple(shape), begin, end)


def _are_integers(value: object, low: int, high: int) -> bool:
    return isinstance(value, list) and all(type(item) is int and low <= item <= high for item in value)


def _check_cover(entries: Mapping[str, Entry], available: int) -> None:
    """The tensors cover the body once, without gaps."""
    position = 0
    for entry in sorted(entries.values(), key=lambda entry: entry.begin):
        if entry.begin != position:
            raise Rejection("E105", "a gap or an overlap")
        position = entry.end
    if position > available:
        raise Rejection("E101", "ends inside its tensors")
    if position < available:
        raise Rejection("E105", "bytes after the last tensor")
