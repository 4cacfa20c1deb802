"""Are these numbers drawn from that distribution? Three tests, each with a false alarm rate of at most 1e-9 (CNF-13).

With N independent draws, alpha = 1e-9 and L = ln(2 / alpha), a right implementation fails with probability <= alpha:

    mean                |mean(x)| <= std sqrt(2 L / N)                          Chernoff
    deviation, normal   -2 sqrt(N L) <= sum(x^2) / std^2 - N <= 2 sqrt(N L) + 2 L   Laurent and Massart, 2000, lemma 1
    deviation, uniform  |mean(x^2) - bound^2 / 3| <= bound^2 sqrt(L / (2 N))    Hoeffding, since 0 <= x^2 <= bound^2
    shape               sup |F_N - F| <= sqrt(L / (2 N))                        Dvoretzky, Kiefer, Wolfowitz, Massart

The first holds for the normal and for the uniform distribution alike, since the latter is strictly sub-Gaussian: its
moment generating function is at most that of the normal distribution of the same variance. All of these hold for
every N; none is an approximation for large N.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from compacter_core.adapter import Array

FALSE_ALARM: Final = 1e-9
_LOG: Final = math.log(2.0 / FALSE_ALARM)


class Kind(StrEnum):
    """Distributions of initial values; the random ones have mean 0."""

    NORMAL = "normal"
    UNIFORM = "uniform"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution and its parameter: the standard deviation, the largest magnitude, or the value."""

    kind: Kind
    parameter: float

    @property
    def std(self) -> float:
        """The standard deviation."""
        return {Kind.NORMAL: self.parameter, Kind.UNIFORM: self.parameter / math.sqrt(3.0), Kind.CONSTANT: 0.0}[
            self.kind
        ]


def check_distribution(values: Array, distribution: Distribution) -> str | None:
    """What is wrong with all elements of all draws of a tensor, or None.

    Args:
        values: of any shape and float type, at least one element.
        distribution: what they should be drawn from.
    """
    x = np.sort(values.astype(np.float64), axis=None)
    if distribution.kind is Kind.CONSTANT:
        return _check_constant(x, distribution.parameter)
    if not np.isfinite(x).all():
        return f"holds {np.count_nonzero(~np.isfinite(x))} values that are not finite"
    tests = (_check_mean, _check_deviation, _check_shape)
    problems = [problem for test in tests if (problem := test(x, distribution)) is not None]
    return "; ".join(problems) or None


def _check_constant(x: NDArray[np.float64], value: float) -> str | None:
    wrong = x[x != value]
    return f"got {float(wrong[0])!r}, expected {value!r} everywhere" if wrong.size else None


def _check_mean(x: NDArray[np.float64], distribution: Distribution) -> str | None:
    mean, limit = float(x.mean()), distribution.std * math.sqrt(2.0 * _LOG / x.size)
    return None if abs(mean) <= limit else f"mean: got {mean:.6g}, expected 0 within {limit:.3g}"


def _check_deviation(x: NDArray[np.float64], distribution: Distribution) -> str | None:
    """The standard deviation about the known mean 0."""
    n, std = x.size, distribution.std
    got = float(np.mean((x / std) ** 2))
    if distribution.kind is Kind.NORMAL:
        low, high = 1.0 - 2.0 * math.sqrt(_LOG / n), 1.0 + 2.0 * math.sqrt(_LOG / n) + 2.0 * _LOG / n
    else:
        # bound^2 = 3 std^2
        low, high = 1.0 - 3.0 * math.sqrt(_LOG / (2.0 * n)), 1.0 + 3.0 * math.sqrt(_LOG / (2.0 * n))
    if low <= got <= high:
        return None
    limits = f"{std * math.sqrt(max(low, 0.0)):.6g} to {std * math.sqrt(high):.6g}"
    return f"standard deviation: got {std * math.sqrt(got):.6g}, expected {limits} for {std:.6g}"


def _check_shape(x: NDArray[np.float64], distribution: Distribution) -> str | None:
    """The Kolmogorov-Smirnov distance between the sorted values and the distribution."""
    n, limit = x.size, math.sqrt(_LOG / (2.0 * x.size))
    probability = _cumulative(distribution)(x)
    steps = np.arange(n + 1) / n
    distance = float(max(np.max(steps[1:] - probability), np.max(probability - steps[:-1])))
    if distance <= limit:
        return None
    return f"Kolmogorov-Smirnov distance from a {distribution.kind} distribution: got {distance:.4g}, limit {limit:.3g}"


def _cumulative(distribution: Distribution) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    if distribution.kind is Kind.UNIFORM:
        return lambda x: np.clip(0.5 + x / (2.0 * distribution.parameter), 0.0, 1.0)
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return lambda x: 0.5 + 0.5 * erf(x / (math.sqrt(2.0) * distribution.parameter))
