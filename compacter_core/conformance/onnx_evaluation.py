"""Outputs of an ONNX model by the evaluator of the onnx package, which shares no code with ONNX Runtime (CNF-12)."""

from collections.abc import Callable, Mapping

import numpy as np

from compacter_core.adapter import Array
from compacter_core.errors import CompacterError, ErrorCode

Evaluate = Callable[[bytes, Mapping[str, Array]], dict[str, Array]]
"""An ONNX file without external data, and its inputs by name, to its outputs by name."""


def onnx_evaluator() -> Evaluate:
    """The evaluator, which raises E704 for a model that cannot be evaluated.

    Raises:
        CompacterError: E004 if onnx is not installed.
    """
    try:
        from onnx import load_model_from_string  # noqa: PLC0415  # an optional dependency
        from onnx.reference import ReferenceEvaluator  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CompacterError(
            ErrorCode.E004,
            "cases whose answer is an ONNX model need the package onnx",
            remedy='Install it with: pip install "compacter-core[onnx]", or choose other classes with --classes.',
        ) from error

    def evaluate(data: bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            model = load_model_from_string(data)
            names = [output.name for output in model.graph.output]
            values = ReferenceEvaluator(model).run(names, dict(feeds))
            return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}
        except Exception as error:  # it raises whatever its operators raise
            raise CompacterError(
                ErrorCode.E704, f"the output cannot be evaluated as an ONNX model: {type(error).__name__}: {error}"
            ) from error

    return evaluate
