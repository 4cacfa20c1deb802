"""The arms of the inference benchmark as functions of their inputs: sessions on one pool of threads, and adapters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime

from benchmarks.inference_captured import Captured
from benchmarks.inference_choices import Arm
from benchmarks.inference_models import Models
from benchmarks.inference_source import another
from compacter_core.errors import CompacterError, ErrorCode
from compacter_runtime import kernels
from compacter_runtime.adapters import description_of, open_adapters
from compacter_runtime.bank import Bank
from compacter_runtime.choosing import Chosen, Swappable
from compacter_runtime.providers import choose_providers, device_of, require_active

Call = Callable[[Mapping[str, Any]], None]
Choose = Callable[[int], Chosen]
Run = Callable[[Mapping[str, Any], onnxruntime.RunOptions | None], Any]
_QUIET: Final = 3
SESSIONS: Final = 8
"""Of the arm `rows`: MiniLM's weights, eight times, take a gigabyte."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How sessions are opened and run.

    Args:
        without: names of ONNX Runtime's optimisers that are switched off.
        cuda_graphs: whether the runs of a shape replay a CUDA graph.
    """

    without: tuple[str, ...] = ()
    cuda_graphs: bool = False


PLAIN: Final = Setup()


def share_pool(threads: int) -> None:
    """Make the pool of threads that all sessions of `open_session` share; its threads spin, as ONNX Runtime's do.

    From then on ONNX Runtime refuses sessions with threads of their own in this process.

    Args:
        threads: inside one operation; 0 leaves it to ONNX Runtime.

    Raises:
        Exception: ONNX Runtime's Fail, where the process has such a pool; it cannot be replaced.
    """
    onnxruntime.set_global_thread_pool_sizes(threads, 1)


def open_session(models: Models, arm: Arm, setup: Setup = PLAIN) -> onnxruntime.InferenceSession:
    """The session of an arm with the provider of its target, on the pool of `share_pool`.

    Args:
        models: where its graph is.
        arm: the arm.
        setup: how it is opened.

    Raises:
        CompacterError: E701 where the provider is not available; E704 where the graph cannot be opened with it, or not
            captured, there is no pool, or there are no kernels for an arm that runs on them.
    """
    asked = [models.target.value]
    (provider,) = choose_providers(asked)
    options = onnxruntime.SessionOptions()
    if arm.uses_kernels and not kernels.register(options):
        raise _cannot_open(arm, "there are no kernels here")
    options.log_severity_level = _QUIET
    options.use_per_session_threads = False
    settings = {"enable_cuda_graph": "1"} if setup.cuda_graphs else {}
    path, switched_off = str(models.path(arm)), list(setup.without)
    try:
        session = onnxruntime.InferenceSession(
            path, options, providers=[(provider, settings)], disabled_optimizers=switched_off
        )
    except Exception as error:  # ONNX Runtime's exceptions share no other base class
        raise _cannot_open(arm, " ".join(str(error).split())) from error
    require_active(session, asked)
    return session


def calls_of(
    models: Models, arms: Sequence[Arm], setup: Setup, rows: int, generator: np.random.Generator
) -> dict[Arm, Call]:
    """A function of the inputs for each arm, whose sessions are opened in a random order.

    Args:
        models: where the graphs are.
        arms: the arms.
        setup: how sessions are opened.
        rows: how many adapters banks have.
        generator: draws the order.

    Raises:
        CompacterError: as `open_session`.
    """
    opened = {arms[index]: _call(models, arms[index], setup, rows) for index in generator.permutation(len(arms))}
    return {arm: opened[arm] for arm in arms}


def _call(models: Models, arm: Arm, setup: Setup, rows: int) -> Call:
    if arm is Arm.ROWS:
        return _by_row([_run_of(open_session(models, arm, setup), setup) for _ in range(SESSIONS)])
    session = open_session(models, arm, setup)
    choose, run = _adapters(models, arm, session, rows), _run_of(session, setup)

    def whole(x: Mapping[str, Any]) -> None:
        batch = len(x["input_ids"])
        chosen = choose(batch)
        run({**x, **chosen.feeds(np.arange(batch))}, chosen.options)

    return whole


def _run_of(session: onnxruntime.InferenceSession, setup: Setup) -> Run:
    if not setup.cuda_graphs:
        return lambda feeds, options: session.run(None, feeds, options)
    captured = Captured(session)
    return lambda feeds, _: captured(feeds)  # adapters are inputs on GPUs, and there are no options of a run


def _by_row(runs: Sequence[Run]) -> Call:
    """A call of the next session for each row: each adapter's session has weights of its own in memory."""

    def call(x: Mapping[str, Any]) -> None:
        for row in range(len(x["input_ids"])):
            runs[row % len(runs)]({name: array[row : row + 1] for name, array in x.items()}, None)

    return call


def _adapters(models: Models, arm: Arm, session: onnxruntime.InferenceSession, rows: int) -> Choose:
    """What a run is given besides texts, by the number of its rows."""
    adapters = open_adapters(description_of(session.get_modelmeta().custom_metadata_map), device_of(session))
    if isinstance(adapters, Bank):
        bank = adapters
        for index in range(rows):
            bank.add(another(models.template(arm), index))
        return lambda batch: bank.choose(bank.names[:batch], batch)
    packed = adapters.load(models.source.adapter()) if isinstance(adapters, Swappable) else None
    return lambda batch: adapters.choose(packed, batch)


def _cannot_open(arm: Arm, why: str) -> CompacterError:
    return CompacterError(
        ErrorCode.E704,
        f"the session of an arm cannot be opened: {why}",
        value=arm.value,
        remedy="Choose --arms without it.",
    )
