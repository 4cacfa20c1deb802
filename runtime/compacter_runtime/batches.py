"""Cutting arrays into batches, and putting the outputs of batches together."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnxruntime

from compacter_runtime.model_inputs import Array, dtype_of

Batch = tuple[Array, dict[str, Array]]
"""Rows of the result, and the inputs of the batch that gives them."""


def slices(arrays: dict[str, Array], rows: int, batch_size: int) -> Iterator[Batch]:
    """The arrays in batches of at most that many rows."""
    for start in range(0, rows, batch_size):
        part = slice(start, start + batch_size)
        yield np.arange(rows)[part], {name: array[part] for name, array in arrays.items()}


def assembled(parts: Sequence[tuple[Array, Array]], rows: int, value: onnxruntime.NodeArg) -> Array:
    """One array from the batches' outputs, each put at its rows' positions."""
    if not parts:
        free = [axis if isinstance(axis, int) else 0 for axis in value.shape[1:]]
        return np.empty((rows, *free), dtype_of(value))
    shapes = {output.shape[1:] for _, output in parts}
    whole = np.zeros((rows, *map(max, zip(*shapes, strict=True))), parts[0][1].dtype)
    for positions, output in parts:
        index: tuple[Array | slice, ...] = (positions, *(slice(size) for size in output.shape[1:]))
        whole[index] = output
    return whole
