"""Randomness that is the same on every machine and in every version of Python: SplitMix64, seeded by a name."""

import hashlib
from collections.abc import Sequence
from math import prod
from typing import Final, TypeVar

import numpy as np

from compacter_core.adapter import Array

T = TypeVar("T")

_MASK: Final = 2**64 - 1
_STEP: Final = 0x9E3779B97F4A7C15


def split_mix(state: int) -> tuple[int, int]:
    """The next state and value of SplitMix64 (Steele, Lea and Flood, 2014)."""
    state = (state + _STEP) & _MASK
    z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return state, z ^ (z >> 31)


class Source:
    """A stream of random values.

    Args:
        name: decides the values; equal names give equal streams.
    """

    def __init__(self, name: str) -> None:
        self._state = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")

    def below(self, bound: int) -> int:
        """A whole number from 0 to bound - 1; for small bounds its bias of bound / 2^64 is no matter."""
        self._state, value = split_mix(self._state)
        return value % bound

    def choice(self, values: Sequence[T]) -> T:
        """One of the values."""
        return values[self.below(len(values))]

    def dyadic(self, shape: Sequence[int], exponent: int = 0) -> Array:
        """Multiples of 2^(exponent - 7) of magnitude below 2^(exponent + 1), without 0: at most 8 significant bits.

        With a moderate exponent every type of the format holds them exactly (CNF-3).
        """
        values = [(1 + self.below(255)) * self.choice((-1.0, 1.0)) for _ in range(prod(shape))]
        return np.ldexp(np.array(values, dtype=np.float64), exponent - 7).reshape(tuple(shape))

    def integers(self, shape: Sequence[int], values: Sequence[int]) -> Array:
        """Elements of `values`, as float64."""
        drawn = [float(self.choice(values)) for _ in range(prod(shape))]
        return np.array(drawn, dtype=np.float64).reshape(tuple(shape))
