"""Weight sketches: up to 256 entries of a backbone Linear, which recognise that Linear anywhere.

The sketch survives casts, quantisation and exporters that rename or merge tensors; a wrong or stale weight correlates
with it no better than chance. Positions are a function of the shape alone (SKT-1):

    size = product of the dimensions; m = min(256, size)
    if size <= 256: positions 0, 1, ..., size - 1
    else: state = fold of state * 2^32 + dimension over the dimensions, from 0, modulo 2^64;
          draw z from SplitMix64(state), take z mod size, skip positions already taken, until there are m; sort them.

A matrix is taken as [in, out], row-major: position p is entry (p // out, p % out).
"""

from functools import lru_cache
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compacter_core.errors import CompacterError, ErrorCode

SKETCH_SIZE: Final = 256
THRESHOLD: Final = 0.95
"""A weight with at least this correlation is, or comes from, the sketched one: int4 keeps 0.99, another weight stays
below 0.2."""

ROUNDING: Final = 2.0**-8
"""How far an entry of a float weight may be from its sketch, relatively: one rounding to bfloat16."""

POOLER: Final = "pooler"
"""Stands for a site id in the names of the sketches of the head's pooler."""

_SUBNORMAL: Final = 2.0**-24
"""The same absolutely, for entries that are subnormal in float16."""

_MASK = 2**64 - 1

Sketch = NDArray[np.float32]


def weight_name(site_id: str) -> str:
    """Tensor name of the weight sketch of a site, or of `POOLER`."""
    return f"sketch.{site_id}.weight"


def bias_name(site_id: str) -> str:
    """Tensor name of the bias sketch of a site, or of `POOLER`."""
    return f"sketch.{site_id}.bias"


def sketch_weight(weight_in_out: NDArray[Any]) -> Sketch:
    """Entries of a weight [in, out] at the sketch positions: float32 [min(256, in * out)].

    Only those entries are read, so a memory-mapped weight stays on disk; a transposed view costs nothing.

    Raises:
        CompacterError: E002 unless the array is a non-empty matrix.
    """
    return _sample(weight_in_out, rank=2)


def sketch_bias(bias: NDArray[Any]) -> Sketch:
    """Entries of a bias [out] at the sketch positions: float32 [min(256, out)].

    Raises:
        CompacterError: E002 unless the array is a non-empty vector.
    """
    return _sample(bias, rank=1)


@lru_cache(maxsize=256)
def sketch_indices(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Flat row-major positions of the sketch of an array of that shape: distinct, ascending, read-only."""
    size = prod(shape)
    if size <= SKETCH_SIZE:
        positions = np.arange(size, dtype=np.int64)
    else:
        positions = np.array(sorted(_draw(shape, size)), dtype=np.int64)
    positions.setflags(write=False)
    return positions


def correlation(sketch: NDArray[Any], array: NDArray[Any]) -> float:
    """Pearson's r between a sketch and the entries of `array`, a weight [in, out] or a bias [out], at its positions.

    It is 0 where the sketch cannot be one of an array of that size, and where r is undefined, unless both are equal
    entry by entry: then it is 1 (biases are often all zero).
    """
    return similarity(sketch, _sample(array, rank=array.ndim))


def is_sketched(sketch: NDArray[Any], array: NDArray[Any]) -> bool:
    """Whether a float weight [in, out] or bias [out] is the sketched one: every entry is, up to a rounding.

    A weight that was trained further still correlates with its sketch, but does not pass.
    """
    return agrees(sketch, _sample(array, rank=array.ndim))


def agrees(sketch: NDArray[Any], sampled: NDArray[Any], step: NDArray[Any] | float = 0.0) -> bool:
    """Whether entries at the sketch positions are the sketched ones, up to a rounding and `step`.

    A quantised weight's entries are off by as much as the step between its values lets them be.
    """
    if sampled.shape != sketch.shape:
        return False
    return bool(np.all(np.abs(sampled - sketch) <= ROUNDING * np.abs(sketch) + _SUBNORMAL + step))


def similarity(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Pearson's r between two sketches, in [-1, 1], with the conventions of `correlation`."""
    if one.shape != other.shape:
        return 0.0
    if np.array_equal(one, other):
        return 1.0
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return 0.0
    a = one.astype(np.float64) - one.mean(dtype=np.float64)
    b = other.astype(np.float64) - other.mean(dtype=np.float64)
    scale = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    if scale == 0.0:
        return 0.0
    return float(np.clip(a @ b / scale, -1.0, 1.0))


def _sample(array: NDArray[Any], rank: int) -> Sketch:
    if array.ndim != rank or rank not in (1, 2) or array.size == 0:
        raise CompacterError(
            ErrorCode.E002,
            "a sketch is taken of a non-empty weight [in, out] or bias [out]",
            value=array.shape,
            expected=f"rank {rank}",
        )
    where = np.unravel_index(sketch_indices(array.shape), array.shape)
    return np.asarray(array[where], dtype=np.float32)


def _draw(shape: tuple[int, ...], size: int) -> set[int]:
    """`SKETCH_SIZE` distinct positions below `size`, by rejection."""
    state = 0
    for dimension in shape:
        state = (state << 32) + dimension & _MASK
    taken: set[int] = set()
    while len(taken) < SKETCH_SIZE:
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        taken.add(_mix(state) % size)
    return taken


def _mix(state: int) -> int:
    """The output function of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    z = state
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)
