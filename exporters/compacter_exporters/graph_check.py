"""Comparison of an exported backbone with the PyTorch model it came from."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.source_model import SourceModel

RELATIVE_LIMIT = 2e-5
"""Largest allowed |difference| over the largest |value|, in float32, of an exported graph against PyTorch."""

_SHAPES = ((1, 1), (2, 8), (3, 17))
"""Batch and length: the edge, the traced shape, and one that a graph with a frozen axis cannot run."""


def check_graph(model: Path, source: SourceModel) -> None:
    """Run the graph in ONNX Runtime beside the PyTorch model.

    Raises:
        CompacterError: E606 if an output differs or a shape cannot be run.
    """
    session = _session(model)
    names = [value.name for value in session.get_inputs()]
    output = session.get_outputs()[0].name
    for batch, length in _SHAPES:
        inputs = {name: tensor for name, tensor in source.sample(batch, length).items() if name in names}
        with torch.no_grad():
            expected = source.model(**inputs)[0].numpy()
        try:
            (got,) = session.run([output], {name: tensor.numpy() for name, tensor in inputs.items()})
        # ONNX Runtime's exceptions share no base class but Exception.
        except Exception as error:
            raise mismatch(output, batch, length, f"ONNX Runtime: {error}") from error
        difference = float(np.max(np.abs(got - expected)))
        # Written so that a NaN fails.
        if not difference <= RELATIVE_LIMIT * float(np.max(np.abs(expected))):
            raise mismatch(output, batch, length, f"largest difference {difference:.3g}")


def _session(model: Path) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CompacterError(ErrorCode.E606, f"ONNX Runtime refuses the exported graph: {error}") from error


def mismatch(output: str, batch: int, length: int, what: str) -> CompacterError:
    """E606 for an output of a graph that is not the model's."""
    return CompacterError(
        ErrorCode.E606,
        f"the exported graph and the PyTorch model disagree on {output} for inputs [{batch}, {length}]",
        value=what,
        expected=f"a relative difference of at most {RELATIVE_LIMIT}",
        remedy="Try the other backend or another opset.",
    )
