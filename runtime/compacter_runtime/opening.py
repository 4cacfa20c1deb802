"""Opening a model without knowing whether it answers with outputs or writes text."""

from collections.abc import Sequence
from pathlib import Path

from compacter_core.graph_files import ENCODER_FILE, MODEL_FILE
from compacter_runtime.decoder import PAST
from compacter_runtime.generator import Generator
from compacter_runtime.session import Session


def open_model(
    model: Path, *, providers: Sequence[str] | None = None, intra_op_threads: int | None = None
) -> Session | Generator:
    """A generator for an encoder with its decoders, and for a graph that takes a cache; a session for any other graph.

    Args:
        model: an `.onnx` file, or a directory of the exporter.
        providers: as for `Session`.
        intra_op_threads: as for `Session`.

    Raises:
        CompacterError: as `Session` and `Generator`.
    """
    if (model / ENCODER_FILE).is_file() and not (model / MODEL_FILE).exists():
        return Generator(model, providers=providers, intra_op_threads=intra_op_threads)
    session = Session(model, providers=providers, intra_op_threads=intra_op_threads)
    if not any(name.startswith(PAST) for name in session.input_names):
        return session
    path = session.path
    del session  # its weights, before the generator's are loaded
    return Generator(path, providers=providers, intra_op_threads=intra_op_threads)
