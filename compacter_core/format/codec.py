"""Tensor values to little-endian bytes and back, and casts between the file's data types.

NumPy has no bfloat16; such values are held as float32, whose upper half a bfloat16 is, so both ways are exact.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.container import TensorInfo

Fill = Callable[[memoryview], None]
"""Fills memory with the next bytes of a file."""

_CHUNK: Final = 2**16


def decode(data: bytes | memoryview, info: TensorInfo) -> Array:
    """The array whose bytes are `data`: of type `info.dtype.memory`, in memory of its own."""
    rest = memoryview(data)

    def fill(part: memoryview) -> None:
        nonlocal rest
        part[:] = rest[: part.nbytes]
        rest = rest[part.nbytes :]

    return read_array(fill, info)


def read_array(fill: Fill, info: TensorInfo) -> Array:
    """The array whose bytes `fill` delivers, one part after the other.

    The bytes go to where the values stay, so that reading needs no second copy. Those of bfloat16 go through a small
    buffer, since they are half as long as the float32 values that hold them.
    """
    if info.dtype is not DType.BF16:
        stored = np.empty(info.shape, dtype=info.dtype.memory.newbyteorder("<"))
        fill(stored.reshape(-1).view(np.uint8).data)
        return stored.astype(info.dtype.memory, copy=False)
    bits = np.empty(info.elements, dtype=np.uint32)
    buffer = np.empty(min(info.elements, _CHUNK), dtype="<u2")
    for begin in range(0, bits.size, _CHUNK):
        part = buffer[: bits.size - begin]
        fill(part.view(np.uint8).data)
        bits[begin : begin + part.size] = part
    bits <<= 16
    return bits.view(np.float32).reshape(info.shape)


def encode(name: str, array: Array, dtype: DType) -> bytes:
    """The bytes of an array whose type is `dtype.memory`.

    Raises:
        CompacterError: E305 for another type, E003 for values that bfloat16 cannot hold.
    """
    if array.dtype.newbyteorder("=") != dtype.memory:
        raise CompacterError(
            ErrorCode.E305,
            f"type of tensor {name}",
            value=str(array.dtype),
            expected=f"{dtype.memory}, for a file of type {dtype.value}",
            remedy="Cast the adapter first, with compacter_core.format.codec.cast.",
        )
    if dtype is not DType.BF16:
        return array.astype(dtype.memory.newbyteorder("<")).tobytes()
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    if np.any(bits & 0xFFFF):
        raise CompacterError(
            ErrorCode.E003,
            f"tensor {name} holds values that are no bfloat16 numbers",
            remedy="Round the adapter first, with compacter_core.format.codec.cast.",
        )
    return (bits >> 16).astype("<u2").tobytes()


def round_to(array: NDArray[Any], dtype: DType) -> Array:
    """Every value rounded once to `dtype`, to nearest, ties to even, held in `dtype.memory`.

    A finite value beyond the type's range becomes an infinity.
    """
    if dtype is not DType.BF16:
        with np.errstate(over="ignore"):
            return np.asarray(array).astype(dtype.memory)
    return _round_bfloat16(np.asarray(array))


def cast(adapter: Adapter, dtype: DType) -> Adapter:
    """The adapter with every tensor rounded to `dtype`. Sketches keep their float32.

    Raises:
        CompacterError: E306 if a finite value is beyond the range of `dtype`.
    """
    tensors = {name: round_to(array, dtype) for name, array in adapter.tensors.items()}
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise CompacterError(
                ErrorCode.E306,
                f"tensor {name} does not fit into {dtype.value}",
                value=float(np.abs(adapter.tensors[name]).max()),
                remedy="Use BF16 or F32, whose range is larger." if dtype is DType.F16 else None,
            )
    return replace(adapter, tensors=tensors, dtype=dtype)


def _round_bfloat16(array: NDArray[Any]) -> NDArray[np.float32]:
    """Round once: going through float32 first would round twice, so float64 values are first rounded to odd."""
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if array.dtype == np.float64:
        single = _to_odd(array, single)
    bits = np.ascontiguousarray(single).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    # The carry above would turn a NaN into an infinity or zero; NaN keeps its upper half, made quiet.
    nan = (bits & np.uint32(0xFFFF0000)) | np.uint32(0x00400000)
    return np.where(np.isnan(single), nan, rounded).astype(np.uint32).view(np.float32).reshape(array.shape)


def _to_odd(exact: NDArray[Any], nearest: NDArray[np.float32]) -> NDArray[np.float32]:
    """float64 to float32 rounded to odd: inexact results get an odd last bit, so that a second rounding is harmless."""
    below = np.abs(nearest.astype(np.float64)) > np.abs(exact)
    truncated = np.where(below, np.nextafter(nearest, np.float32(0)), nearest)
    inexact = (truncated.astype(np.float64) != exact) & np.isfinite(exact)
    bits = np.ascontiguousarray(truncated, dtype=np.float32).view(np.uint32)
    return np.where(inexact, bits | 1, bits).astype(np.uint32).view(np.float32).reshape(nearest.shape)
