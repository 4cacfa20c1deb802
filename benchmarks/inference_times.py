"""Times of the inference benchmark's arms, from several openings of their sessions, and what they say."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final

import numpy as np
from tqdm import trange

from benchmarks.inference_choices import Arm
from benchmarks.inference_models import Models
from benchmarks.inference_sessions import PLAIN, Call, Setup, calls_of
from benchmarks.inference_source import VOCABULARY
from compacter_exporters.optimise.measuring import rounds

Times = Mapping[Arm, Sequence[float]]
"""Seconds of every run of each arm; runs at the same place are of one round."""
CLOCKS: Final[Mapping[str, Callable[[], float]]] = {"wall": time.perf_counter, "cpu": time.process_time}
_FEWEST: Final = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Args:
        shapes: rows and tokens of the inputs, by name.
        seconds: for each shape, in all openings together; three rounds an opening are run however long they take.
        openings: how often the sessions are opened.
        clock: key of `CLOCKS`.
        setup: how sessions are opened.
    """

    shapes: Mapping[str, tuple[int, int]]
    seconds: float
    openings: int
    clock: str = "wall"
    setup: Setup = PLAIN


@dataclass(frozen=True, slots=True)
class Ratio:
    """How long an arm takes, in times of another one.

    Args:
        median: of the ratios of the rounds of all openings.
        lowest: of the medians of the openings.
        highest: of them.
    """

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        """The median, then from where to where those of the openings go."""
        return f"{self.median:.3f} {self.lowest:.3f}-{self.highest:.3f}"


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of an arm at a shape.

    Args:
        ms: median milliseconds of a run.
        runs: how many were measured.
        ratios: by what they are to: "backbone", "exported", "merged", "kernels", "bank", as far as there are such arms.
    """

    ms: float
    runs: int
    ratios: Mapping[str, Ratio]


def measure(models: Models, arms: Sequence[Arm], plan: Plan) -> dict[str, list[Times]]:
    """Times of each shape, a mapping for each opening."""
    generator = np.random.default_rng(0)
    openings = [_opening(models, arms, plan, generator) for _ in trange(plan.openings, unit="opening", disable=None)]
    return {name: [of_opening[name] for of_opening in openings] for name in plan.shapes}


def _opening(models: Models, arms: Sequence[Arm], plan: Plan, generator: np.random.Generator) -> dict[str, Times]:
    """Open all sessions, measure every shape, and close the sessions, which nothing else refers to."""
    calls = calls_of(models, arms, plan.setup, max(batch for batch, _ in plan.shapes.values()), generator)
    return {name: _times(calls, shape, plan, generator) for name, shape in plan.shapes.items()}


def inputs_of(shape: tuple[int, int], generator: np.random.Generator) -> dict[str, Any]:
    """Rows of random tokens without padding."""
    return {
        "input_ids": generator.integers(0, VOCABULARY, shape),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }


def _times(calls: Mapping[Arm, Call], shape: tuple[int, int], plan: Plan, generator: np.random.Generator) -> Times:
    x = inputs_of(shape, generator)
    runs = {arm: partial(call, x) for arm, call in calls.items()}
    return rounds(runs, plan.seconds / plan.openings, generator, fewest=_FEWEST, clock=CLOCKS[plan.clock])


def figures_of(openings: Sequence[Times]) -> dict[Arm, Row]:
    """Median milliseconds of each arm, and its ratios to other arms, each chosen once for all openings together.

    They are the fastest graph without an adapter ("backbone"), that which was exported ("exported"), the faster merged
    graph in ONNX Runtime's own operators ("merged"), that on kernels ("kernels") and the bank.
    """
    arms = list(openings[0])
    whole = {arm: [*chain.from_iterable(times[arm] for times in openings)] for arm in arms}
    medians = {arm: statistics.median(of_arm) for arm, of_arm in whole.items()}
    kinds: dict[str, list[Arm]] = {
        "backbone": [arm for arm in arms if arm.is_bare],
        "exported": [arm for arm in arms if arm is Arm.BACKBONE],
        "merged": [arm for arm in arms if arm.is_merged],
        "kernels": [arm for arm in arms if arm is Arm.MERGED_KERNELS],
        "bank": [arm for arm in arms if arm is Arm.BANK],
    }
    bases = {name: min(of_kind, key=medians.__getitem__) for name, of_kind in kinds.items() if of_kind}
    return {
        arm: Row(1e3 * medians[arm], len(of_arm), {name: _ratio(openings, arm, base) for name, base in bases.items()})
        for arm, of_arm in whole.items()
    }


def _ratio(openings: Sequence[Times], arm: Arm, base: Arm) -> Ratio:
    """From runs that stand beside each other."""
    ratios = [[one / other for one, other in zip(times[arm], times[base], strict=True)] for times in openings]
    medians = [statistics.median(of_opening) for of_opening in ratios]
    return Ratio(statistics.median(chain.from_iterable(ratios)), min(medians), max(medians))
