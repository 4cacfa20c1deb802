"""The arms of the inference benchmark as functions of their inputs: sessions on one pool of threads, and adapters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime

from benchmarks.inference_models import Arm, Models, another
from compacter_core.linkage.description import read_description
from compacter_runtime import kernels
from compacter_runtime.bank import Bank
from compacter_runtime.choosing import Chosen, NoAdapters, Swappable

Call = Callable[[Mapping[str, Any]], None]
Choose = Callable[[int], Chosen]
_QUIET: Final = 3
SESSIONS: Final = 8
"""Of the arm `rows`: MiniLM's weights, eight times, take a gigabyte."""


def share_pool(threads: int) -> None:
    """Make the pool of threads that all sessions of `open_session` share; its threads spin, as ONNX Runtime's do.

    From then on ONNX Runtime refuses sessions with threads of their own in this process.

    Args:
        threads: inside one operation; 0 leaves it to ONNX Runtime.

    Raises:
        Exception: ONNX Runtime's Fail, where the process has such a pool; it cannot be replaced.
    """
    onnxruntime.set_global_thread_pool_sizes(threads, 1)


def open_session(models: Models, arm: Arm, without: Sequence[str] = ()) -> onnxruntime.InferenceSession:
    """The session of an arm, on the pool of `share_pool`.

    Args:
        models: where its graph is.
        arm: the arm.
        without: names of ONNX Runtime's optimisers that are switched off.

    Raises:
        RuntimeError: where there is no such pool, or no kernels for the arm that runs on them.
    """
    options = onnxruntime.SessionOptions()
    if arm.uses_kernels and not kernels.register(options):
        raise RuntimeError(f"there are no kernels here; choose --arms without {arm.value!r}")
    options.log_severity_level = _QUIET
    options.use_per_session_threads = False
    path, switched_off = str(models.path(arm)), list(without)
    return onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"], disabled_optimizers=switched_off
    )


def calls_of(
    models: Models, arms: Sequence[Arm], without: Sequence[str], rows: int, generator: np.random.Generator
) -> dict[Arm, Call]:
    """A function of the inputs for each arm, whose sessions are opened in a random order.

    Args:
        models: where the graphs are.
        arms: the arms.
        without: as `open_session`.
        rows: how many adapters banks have.
        generator: draws the order.
    """
    opened = {arms[index]: _call(models, arms[index], without, rows) for index in generator.permutation(len(arms))}
    return {arm: opened[arm] for arm in arms}


def _call(models: Models, arm: Arm, without: Sequence[str], rows: int) -> Call:
    if arm is Arm.ROWS:
        return _by_row([open_session(models, arm, without) for _ in range(SESSIONS)])
    session = open_session(models, arm, without)
    choose = _adapters(models, arm, session, rows)

    def whole(x: Mapping[str, Any]) -> None:
        batch = len(x["input_ids"])
        chosen = choose(batch)
        session.run(None, {**x, **chosen.feeds(np.arange(batch))}, chosen.options)

    return whole


def _by_row(sessions: Sequence[onnxruntime.InferenceSession]) -> Call:
    """A call of the next session for each row: each adapter's session has weights of its own in memory."""

    def call(x: Mapping[str, Any]) -> None:
        for row in range(len(x["input_ids"])):
            sessions[row % len(sessions)].run(None, {name: array[row : row + 1] for name, array in x.items()})

    return call


def _adapters(models: Models, arm: Arm, session: onnxruntime.InferenceSession, rows: int) -> Choose:
    """What a run is given besides texts, by the number of its rows."""
    if arm.is_swappable:
        swappable = Swappable(read_description(session.get_modelmeta().custom_metadata_map))
        packed = swappable.load(models.adapter())
        return lambda batch: swappable.choose(packed, batch)
    if arm.is_bank:
        bank = Bank(read_description(session.get_modelmeta().custom_metadata_map))
        for index in range(rows):
            bank.add(another(models.template(arm), index))
        return lambda batch: bank.choose(bank.names[:batch], batch)
    return lambda batch: NoAdapters().choose(None, batch)
