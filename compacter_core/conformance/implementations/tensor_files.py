"""Tensor files of requests and answers: safetensors with any names and types, no configuration inside."""

from collections.abc import Mapping
from pathlib import Path

from compacter_core.adapter import Array, DType
from compacter_core.format.codec import decode, encode, round_to
from compacter_core.format.container import TensorInfo, header_bytes, parse_header


def read_tensors(path: Path) -> dict[str, Array]:
    """The tensors of a file, BF16 as float32.

    Raises:
        CompacterError: E101 to E112.
    """
    data = path.read_bytes()
    header = parse_header(data)
    body = memoryview(data)[header.data_start :]
    return {name: decode(body[entry.begin : entry.end], entry.info) for name, entry in header.entries.items()}


def write_tensors(path: Path, tensors: Mapping[str, Array], dtype: DType) -> None:
    """Write tensors, each value rounded once to `dtype`.

    Raises:
        CompacterError: E102, E107, E108 or E109 for what a file cannot hold.
    """
    rounded = {name: round_to(array, dtype) for name, array in tensors.items()}
    infos = [(name, TensorInfo(dtype, array.shape)) for name, array in rounded.items()]
    payload = (encode(name, array, dtype) for name, array in rounded.items())
    path.write_bytes(b"".join([header_bytes({}, infos), *payload]))
