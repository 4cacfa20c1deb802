"""Times of several functions, measured in turn, as ratios to the first one's."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_FEWEST: Final = 10
_NORMAL: Final = 1.96
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a function takes.

    Args:
        milliseconds: median.
        ratio: median of the ratios to the first function, both of the same round.
        limit: upper end of the 95 % confidence interval of that median; where it is below 1, the function is faster.
    """

    milliseconds: float
    ratio: float
    limit: float


def measure(
    arms: Mapping[str, Callable[[], None]],
    seconds: float,
    generator: np.random.Generator,
    after_round: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Run all functions in rounds, each round in another random order.

    Every function runs once unmeasured before each measurement, so that none finds the caches as another left them.

    Args:
        arms: the functions, the one to compare with first.
        seconds: in all; ten rounds are run however long they take.
        generator: draws the orders.
        after_round: called after each round.
    """
    names = list(arms)
    times: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[names[0]]) < _FEWEST:
        for position in generator.permutation(len(names)):
            arms[names[position]]()
            start = time.perf_counter()
            arms[names[position]]()
            times[names[position]].append(time.perf_counter() - start)
        after_round()
    base = times[names[0]]
    return {name: _timing(times[name], base) for name in names}


def _timing(times: Sequence[float], base: Sequence[float]) -> Timing:
    ratios = sorted(one / other for one, other in zip(times, base, strict=True))
    return Timing(1e3 * statistics.median(times), statistics.median(ratios), upper_limit(ratios))


def upper_limit(ordered: Sequence[float]) -> float:
    """Upper end of the 95 % confidence interval of the median, from the order of the values alone.

    The number of values below the median is binomial with mean n/2 and variance n/4.
    """
    n = len(ordered)
    return ordered[min(n - 1, math.ceil((n + _NORMAL * math.sqrt(n)) / 2))]
