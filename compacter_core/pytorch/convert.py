"""Between PyTorch tensors and the NumPy arrays of the file."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from compacter_core.adapter import Array, DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.layout import Shape
from compacter_core.pytorch.distributed import assign, whole, whole_shape

_FILE_TYPES = {
    torch.float64: DType.F64,
    torch.float32: DType.F32,
    torch.float16: DType.F16,
    torch.bfloat16: DType.BF16,
}


def file_type(tensors: Iterable[Tensor]) -> DType:
    """The smallest data type of the file that holds all these tensors exactly.

    Raises:
        CompacterError: E003 for a data type that the file does not have.
    """
    common: torch.dtype | None = None
    for tensor in tensors:
        common = tensor.dtype if common is None else torch.promote_types(common, tensor.dtype)
    if common not in _FILE_TYPES:
        raise CompacterError(ErrorCode.E003, "adapter tensor", value=common, expected=", ".join(DType))
    return _FILE_TYPES[common]


def to_array(tensor: Tensor, dtype: DType) -> Array:
    """A copy of the whole tensor in memory, as the array type that stands for `dtype`."""
    wide = torch.float64 if tensor.dtype is torch.float64 else torch.float32
    # A copy first: PyTorch never frees or moves memory that an array has looked into, as FSDP2 has to.
    return whole(tensor).to("cpu", wide, copy=True).numpy().astype(dtype.memory, copy=False)


def view_array(tensor: Tensor) -> Array:
    """The tensor as an array, without a copy where memory and data type allow it."""
    tensor = tensor.detach().cpu()
    return tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy()


def to_tensor(name: str, arrays: Mapping[str, Array], shape: Shape) -> Tensor:
    """`arrays[name]` as a tensor, a copy.

    Raises:
        CompacterError: E301 if it is missing, E304 if it has another shape than `shape`.
    """
    if name not in arrays:
        raise CompacterError(ErrorCode.E301, f"tensor {name} is missing")
    array = arrays[name]
    if array.shape != shape:
        raise CompacterError(ErrorCode.E304, f"tensor {name}", value=tuple(array.shape), expected=str(shape))
    return torch.from_numpy(np.array(array))


def copy_into(target: Tensor, name: str, arrays: Mapping[str, Array]) -> None:
    """Copies `arrays[name]` into `target`, rounding to its data type.

    Raises:
        CompacterError: E301 if it is missing, E304 if it has another shape.
    """
    assign(target, to_tensor(name, arrays, whole_shape(target)))
