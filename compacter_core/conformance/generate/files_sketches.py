"""Positions of weight sketches, written once more from the specification (SKT), in whole numbers."""

from collections.abc import Sequence
from math import prod
from typing import Final

SKETCH_SIZE: Final = 256
_WORD: Final = 2**64


def positions(shape: Sequence[int]) -> list[int]:
    """Flat row-major positions of the sketch of a weight [in, out] or a bias [out]."""
    size = prod(shape)
    if size <= SKETCH_SIZE:
        return list(range(size))
    state = 0
    for dimension in shape:
        state = (state * 2**32 + dimension) % _WORD
    found: set[int] = set()
    while len(found) < SKETCH_SIZE:
        state = (state + 0x9E3779B97F4A7C15) % _WORD
        found.add(_splitmix64(state) % size)
    return sorted(found)


def _splitmix64(state: int) -> int:
    """The 64 bits that SplitMix64 gives for a state."""
    z = state
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> shift)) * factor % _WORD
    return z ^ (z >> 31)
