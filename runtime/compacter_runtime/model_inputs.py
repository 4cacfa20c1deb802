"""What a model's inputs accept, and the check of arrays against it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from compacter_core.errors import CompacterError, ErrorCode

Array = NDArray[Any]

_TYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}


def dtype_of(value: onnxruntime.NodeArg) -> np.dtype[Any]:
    """NumPy type of an input or output of a session.

    Raises:
        CompacterError: E703 for a type that NumPy lacks.
    """
    if value.type not in _TYPES:
        raise CompacterError(ErrorCode.E703, f"type of {value.name} not supported", value=value.type)
    return np.dtype(_TYPES[value.type])


def checked_arrays(inputs: Mapping[str, Any], wanted: Sequence[onnxruntime.NodeArg]) -> dict[str, Array]:
    """`inputs` as arrays of the model's types, whose axes of one name have one size.

    Integers of another width are converted; nothing that could lose a value is.

    Raises:
        CompacterError: E703.
    """
    names = [value.name for value in wanted]
    if set(inputs) != set(names):
        missing = [name for name in names if name not in inputs]
        unknown = [name for name in inputs if name not in names]
        raise CompacterError(
            ErrorCode.E703, f"inputs missing: {missing}, unknown: {unknown}", expected=", ".join(names)
        )
    arrays = {value.name: _checked(inputs[value.name], value) for value in wanted}
    sizes: dict[str, int] = {}
    for value in wanted:
        # All inputs have the batch as their first axis, whatever the model calls it.
        for axis, size in zip(["first axis", *value.shape[1:]], arrays[value.name].shape, strict=True):
            if isinstance(axis, str) and sizes.setdefault(axis, size) != size:
                shapes = {name: array.shape for name, array in arrays.items()}
                raise CompacterError(ErrorCode.E703, f"inputs of different sizes ({axis})", value=shapes)
    return arrays


def _checked(given: Any, value: onnxruntime.NodeArg) -> Array:
    dtype = dtype_of(value)
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise CompacterError(ErrorCode.E703, f"input {value.name} is no array: {error}") from error
    if not _converts(array, dtype):
        raise CompacterError(
            ErrorCode.E703, f"input {value.name} of the wrong type", value=str(array.dtype), expected=str(dtype)
        )
    fits = array.ndim == len(value.shape) and all(
        not isinstance(wanted, int) or wanted == got for wanted, got in zip(value.shape, array.shape, strict=True)
    )
    if array.ndim == 0 or not fits:
        raise CompacterError(
            ErrorCode.E703, f"input {value.name} of the wrong shape", value=array.shape, expected=str(value.shape)
        )
    return array.astype(dtype, copy=False)


def _converts(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether every value of `array` exists in `dtype`."""
    if np.can_cast(array.dtype, dtype, casting="safe") or array.size == 0:
        return True
    if array.dtype.kind not in "iu" or dtype.kind != "i":
        return False
    limits = np.iinfo(dtype)
    return int(array.min()) >= limits.min and int(array.max()) <= limits.max
