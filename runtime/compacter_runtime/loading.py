"""Loading and running a model in ONNX Runtime: with the providers asked for, or an error that says why not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from compacter_core.errors import CompacterError, ErrorCode
from compacter_runtime import kernels
from compacter_runtime.model_inputs import Array
from compacter_runtime.providers import choose_providers, require_active


def open_session(path: Path, asked: Sequence[str] | None, threads: int | None) -> onnxruntime.InferenceSession:
    """A session of one model; with kernels, where it runs on CPUs and calls functions for adapters.

    Args:
        path: the `.onnx` file.
        asked: execution providers in order of preference, as `choose_providers`.
        threads: inside one operation; None leaves it to ONNX Runtime.

    Raises:
        CompacterError: E001 for fewer threads than one, E701 if a provider is not available, E704 if the model cannot
            be loaded.
    """
    providers = choose_providers(asked)
    options = onnxruntime.SessionOptions()
    # What ONNX Runtime logs at lower levels it also raises, or `require_active` finds.
    options.log_severity_level = 4
    if threads is not None:
        if threads < 1:
            raise CompacterError(ErrorCode.E001, "intra_op_threads", value=threads, expected="at least 1")
        options.intra_op_num_threads = threads
    if not path.is_file():
        raise CompacterError(ErrorCode.E704, "there is no such model", value=str(path), expected="an .onnx file")
    try:
        kernels.register_for(path, options, providers)
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    # ONNX Runtime's exceptions share no base class but Exception.
    except Exception as error:
        raise CompacterError(
            ErrorCode.E704,
            f"ONNX Runtime cannot load the model: {' '.join(str(error).split())}",
            value=str(path),
            remedy="External data must lie beside the model, under its original name.",
        ) from error
    require_active(session, asked)
    return session


def run_session(
    session: onnxruntime.InferenceSession,
    names: Sequence[str] | None,
    feed: Mapping[str, Any],
    given: Sequence[str],
    options: onnxruntime.RunOptions | None = None,
) -> list[Array]:
    """The outputs of these names, all if None.

    Args:
        session: the session.
        names: of outputs.
        feed: one array for each input.
        given: the inputs that are the user's, whose shapes an error shows.
        options: of the run.

    Raises:
        CompacterError: E703 if ONNX Runtime cannot run the model on this input.
    """
    try:
        outputs: list[Array] = session.run(names, feed, options)
    # ONNX Runtime's exceptions share no base class but Exception.
    except Exception as error:
        raise CompacterError(
            ErrorCode.E703,
            f"ONNX Runtime cannot run the model on this input: {' '.join(str(error).split())}",
            value={name: np.shape(feed[name]) for name in given},
            remedy="Check the length of the sequences and the range of the token ids.",
        ) from error
    return outputs
