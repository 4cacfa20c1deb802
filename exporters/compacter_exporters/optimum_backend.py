"""Backbone to ONNX through optimum-onnx, which needs transformers 4."""

from pathlib import Path

import onnx_ir
from optimum.exporters.onnx import onnx_export_from_model

from compacter_exporters.source_model import SourceModel


def export_graph(source: SourceModel, *, opset: int | None, scratch: Path) -> onnx_ir.Model:
    """The model as a graph with dynamic batch and sequence axes, written to `scratch` on its way.

    optimum's own validation is left out: every backend's graph is checked in the same way afterwards.
    """
    onnx_export_from_model(source.model, scratch, opset=opset, task=source.task.value, do_validation=False)
    return onnx_ir.load(scratch / "model.onnx")
