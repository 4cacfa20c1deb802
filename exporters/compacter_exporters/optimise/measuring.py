"""Times of several functions, measured in turn, as ratios to the first one's."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import onnxruntime

from compacter_runtime import kernels

Name = TypeVar("Name", bound=str)

_QUIET: Final = 3
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
    times = rounds(arms, seconds, generator, fewest=_FEWEST, clock=time.perf_counter, after_round=after_round)
    base = next(iter(times.values()))
    return {name: _timing(of_arm, base) for name, of_arm in times.items()}


def rounds(
    arms: Mapping[Name, Callable[[], None]],
    seconds: float,
    generator: np.random.Generator,
    *,
    fewest: int,
    clock: Callable[[], float],
    after_round: Callable[[], None] = lambda: None,
) -> dict[Name, list[float]]:
    """Seconds of every run, as `measure` makes them; `clock` tells them, and `fewest` rounds are run at least."""
    names = list(arms)
    times: dict[Name, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[names[0]]) < fewest:
        for position in generator.permutation(len(names)):
            call, name = arms[names[position]], names[position]
            call()
            start = clock()
            call()
            times[name].append(clock() - start)
        after_round()
    return times


def timed_session(path: Path, providers: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session whose threads do not spin while another one is measured, with kernels where the graph calls them.

    Args:
        path: the model.
        providers: ONNX Runtime's names of them.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    kernels.register_for(path, options, providers)
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers))


def _timing(times: Sequence[float], base: Sequence[float]) -> Timing:
    ratios = sorted(one / other for one, other in zip(times, base, strict=True))
    return Timing(1e3 * statistics.median(times), statistics.median(ratios), upper_limit(ratios))


def upper_limit(ordered: Sequence[float]) -> float:
    """Upper end of the 95 % confidence interval of the median, from the order of the values alone.

    The number of values below the median is binomial with mean n/2 and variance n/4.
    """
    n = len(ordered)
    return ordered[min(n - 1, math.ceil((n + _NORMAL * math.sqrt(n)) / 2))]
