"""Running the arms of the inference benchmark in turn, and what the times say."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import onnxruntime

from benchmarks.inference_models import VOCABULARY, Arm, Models, another
from compacter_core.adapter import Adapter
from compacter_core.linkage.description import read_description
from compacter_exporters.optimise.measuring import rounds, timed_session
from compacter_runtime.bank import Bank
from compacter_runtime.choosing import Swappable

Call = Callable[[Mapping[str, Any]], None]
Given = Callable[[int], Mapping[str, Any]]
Figures = dict[str, dict[str, float | str]]
CLOCKS: Final[Mapping[str, Callable[[], float]]] = {"wall": time.perf_counter, "cpu": time.process_time}
_FEWEST: Final = 3


@dataclass(frozen=True, slots=True)
class Running:
    """How sessions run.

    Args:
        threads: inside one operation.
        without: names of ONNX Runtime's optimisers that are switched off.
    """

    threads: int
    without: tuple[str, ...] = ()


def calls_of(models: Models, arms: Sequence[Arm], how: Running, rows: int) -> dict[Arm, Call]:
    """A function of the inputs for each arm; banks have as many adapters as there are rows."""
    return {arm: _call(models, arm, how, rows) for arm in arms}


def _call(models: Models, arm: Arm, how: Running, rows: int) -> Call:
    session = open_session(models, arm, how)
    given = _adapters(models, arm, session, rows)

    def whole(x: Mapping[str, Any]) -> None:
        session.run(None, {**x, **given(len(x["input_ids"]))})

    def by_row(x: Mapping[str, Any]) -> None:
        for row in range(len(x["input_ids"])):
            whole({name: array[row : row + 1] for name, array in x.items()})

    return by_row if arm is Arm.ROWS else whole


def _adapters(models: Models, arm: Arm, session: onnxruntime.InferenceSession, rows: int) -> Given:
    """What a run is given besides texts, by the number of its rows."""
    if arm is Arm.SWAPPABLE:
        swappable = Swappable(read_description(session.get_modelmeta().custom_metadata_map))
        packed = swappable.load(models.adapter())
        return lambda batch: swappable.choose(packed, batch).feeds(np.arange(batch))
    if arm in (Arm.BANK, Arm.SHARED):
        bank = Bank(read_description(session.get_modelmeta().custom_metadata_map))
        for index in range(rows):
            bank.add(another(_template(models, arm), index))
        return lambda batch: bank.choose(bank.names[:batch], batch).feeds(np.arange(batch))
    return lambda _: {}


def _template(models: Models, arm: Arm) -> Adapter:
    return models.without_norms() if arm is Arm.SHARED else models.adapter()


def open_session(models: Models, arm: Arm, how: Running) -> onnxruntime.InferenceSession:
    """The session of an arm."""
    return timed_session(models.path(arm), ["CPUExecutionProvider"], threads=how.threads, without=how.without)


def measure(calls: Mapping[Arm, Call], shape: tuple[int, int], seconds: float, clock: str) -> dict[Arm, list[float]]:
    """Seconds of every run of each arm, as `rounds` makes them."""
    generator = np.random.default_rng(0)
    x = {
        "input_ids": generator.integers(0, VOCABULARY, shape),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
    runs = {arm: partial(call, x) for arm, call in calls.items()}
    return rounds(runs, seconds, generator, fewest=_FEWEST, clock=CLOCKS[clock])


def figures_of(times: Mapping[Arm, Sequence[float]]) -> Figures:
    """Median milliseconds of each arm, and its ratios to the fastest bare backbone, the fastest merged graph, a bank.

    A ratio is the median of the ratios of runs that stand beside each other.
    """
    medians = {arm: statistics.median(of_arm) for arm, of_arm in times.items()}
    kinds: dict[str, list[Arm]] = {
        "of_backbone": [arm for arm in times if arm.is_bare],
        "of_merged": [arm for arm in times if arm.is_merged],
        "of_bank": [arm for arm in times if arm is Arm.BANK],
    }
    bases = {name: min(arms, key=medians.__getitem__) for name, arms in kinds.items() if arms}
    figures: Figures = {}
    for arm, of_arm in times.items():
        figures[arm] = {"ms": 1e3 * medians[arm], "runs": len(of_arm)}
        for name, base in bases.items():
            ratios = [one / other for one, other in zip(of_arm, times[base], strict=True)]
            figures[arm][name] = statistics.median(ratios)
    return figures
