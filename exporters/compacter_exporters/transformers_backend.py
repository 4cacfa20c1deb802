"""Backbone to ONNX through transformers' own exporter (transformers 5)."""

from pathlib import Path

import onnx_ir
import torch
from transformers.exporters import OnnxConfig, OnnxExporter

from compacter_exporters.source_model import SourceModel


def export_graph(source: SourceModel, *, opset: int | None, scratch: Path) -> onnx_ir.Model:
    """The model as a graph with dynamic batch and sequence axes; `scratch` stays unused.

    The axes are named, not automatic: should the export fix one of them, it fails instead of specialising silently.
    """
    del scratch
    inputs = source.sample(2, 8)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=source.max_length)}
    config = OnnxConfig(dynamic=True, dynamic_shapes=dict.fromkeys(inputs, axes), opset_version=opset)
    model: onnx_ir.Model = OnnxExporter().export(source.model, inputs, config=config).program
    return model
