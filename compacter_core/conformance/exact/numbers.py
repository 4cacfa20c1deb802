"""Arrays to nested lists of fractions and back: the only places where exact and floating point numbers meet."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from compacter_core.adapter import Array

Vector = list[Fraction]
Matrix = list[Vector]


def exact(values: Any) -> Any:
    """Nested lists of fractions, each exactly the number it stands for; a number gives one fraction."""
    if isinstance(values, np.ndarray):
        return exact(values.tolist())
    if isinstance(values, list):
        return [exact(element) for element in values]
    return Fraction(values)


def rows(values: Array) -> Matrix:
    """An array [..., d] as a list of its rows."""
    matrix: Matrix = exact(values.reshape(-1, values.shape[-1]))
    return matrix


def rounded(values: Any, shape: Sequence[int]) -> Array:
    """Nested lists of fractions as a float64 array of that shape, each rounded once to nearest, ties to even."""
    return np.array(_floats(values), dtype=np.float64).reshape(tuple(shape))


def dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    """The sum of products."""
    return sum((u * v for u, v in zip(a, b, strict=True) if u and v), Fraction(0))


def product(left: Matrix, right: Matrix) -> Matrix:
    """The matrix product."""
    columns = transposed(right)
    return [[dot(row, column) for column in columns] for row in left]


def transposed(matrix: Matrix) -> Matrix:
    """Rows as columns."""
    return [list(column) for column in zip(*matrix, strict=True)]


def added(a: Any, b: Any) -> Any:
    """The elementwise sum of nested lists of one shape."""
    if isinstance(a, Fraction):
        return a + b
    return [added(u, v) for u, v in zip(a, b, strict=True)]


def _floats(values: Any) -> Any:
    return float(values) if isinstance(values, Fraction) else [_floats(element) for element in values]
