"""Tensors of the suite, of requests and of answers: plain safetensors files, unlike adapters with any shape and value.

The stock reader does the parsing; NaN, empty arrays and bfloat16, which NumPy lacks, pass through it as bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError, deserialize

from compacter_core.adapter import Array, DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.codec import decode, encode
from compacter_core.format.container import PREFIX, TensorInfo


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """Values and the type they have in the file; `array` is of type `dtype.memory`."""

    array: Array
    dtype: DType


def read_tensors(data: bytes, what: str) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file.

    Args:
        data: the file.
        what: its name in messages.

    Raises:
        CompacterError: E801 if it is no safetensors file; E110 for a tensor that is none of F64, F32, F16 and BF16.
    """
    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise CompacterError(
            ErrorCode.E801, f"{what} is no safetensors file: {error}", value=data[:16], expected="a safetensors file"
        ) from error
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in [*DType]:
            raise CompacterError(
                ErrorCode.E110, f"{what}: type of tensor {name}", value=entry["dtype"], expected=", ".join(DType)
            )
        info = TensorInfo(DType(entry["dtype"]), tuple(entry["shape"]))
        tensors[name] = Tensor(decode(bytes(entry["data"]), info), info.dtype)
    return tensors


def write_tensors(arrays: Mapping[str, Array], dtype: DType) -> bytes:
    """The bytes of a safetensors file that holds every array in one type.

    Args:
        arrays: name to an array of type `dtype.memory`; a bfloat16 is held as float32.
        dtype: type in the file.

    Raises:
        CompacterError: E305 for an array of another type, E003 for values that bfloat16 cannot hold.
    """
    # Written by hand, since the package's own function takes other arguments in every other version of it.
    header, body = {}, b""
    for name, array in sorted(arrays.items()):
        data = encode(name, np.ascontiguousarray(array), dtype)
        header[name] = {
            "dtype": dtype.value,
            "shape": array.shape,
            "data_offsets": (len(body), len(body) + len(data)),
        }
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % PREFIX)
    return len(text).to_bytes(PREFIX, "little") + text + body
