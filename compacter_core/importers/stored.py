"""Tensors of a checkpoint that are read when they are asked for, so that a large model costs what is used of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from compacter_core.adapter import Array, DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.layout import Shape


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor that has not been read yet.

    Args:
        shape: its shape.
        dtype: its type in the checkpoint; None for integers and truth values, which no adapter consists of.
        read: makes the array, of type `dtype.memory`; a view of the file where that is possible.
    """

    shape: Shape
    dtype: DType | None
    read: Callable[[], Array]


class StoredTensors(Mapping[str, Array]):
    """The tensors of a checkpoint by key, in its order.

    Args:
        place: the file they are in, for messages.
        tensors: by key.
    """

    def __init__(self, place: str, tensors: Mapping[str, StoredTensor]) -> None:
        self.place = place
        self._tensors = dict(tensors)

    def __getitem__(self, key: str) -> Array:
        return self._tensors[key].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def stored(self, key: str) -> StoredTensor:
        """What is known of a tensor without reading it.

        Raises:
            KeyError: if there is no such key.
        """
        return self._tensors[key]

    def subset(self, keys: Iterable[str]) -> "StoredTensors":
        """The tensors of these keys, in their order.

        Raises:
            KeyError: if one is not there.
        """
        return StoredTensors(self.place, {key: self._tensors[key] for key in keys})

    def floats(self) -> "StoredTensors":
        """The tensors of floating-point numbers."""
        return self.subset(key for key, tensor in self._tensors.items() if tensor.dtype is not None)

    def dtype(self) -> DType:
        """The smallest data type of the file format that holds all the tensors exactly.

        Raises:
            CompacterError: E003 if one holds no floating-point numbers.
        """
        found: set[DType] = set()
        for key, tensor in self._tensors.items():
            if tensor.dtype is None:
                raise CompacterError(
                    ErrorCode.E003, f"type of {key} in {self.place}", expected=f"one of {', '.join(DType)}"
                )
            found.add(tensor.dtype)
        if found <= {DType.F16} or found <= {DType.BF16}:
            return found.pop() if found else DType.F32
        return DType.F64 if DType.F64 in found else DType.F32
