"""Backbone to ONNX through transformers' own exporter (transformers 5)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir
import torch
from transformers.exporters import OnnxConfig, OnnxExporter

from compacter_exporters.choices import DECODER_FILE, DECODER_WITH_PAST_FILE, ENCODER_FILE, MODEL_FILE, Task
from compacter_exporters.decoder_inputs import decoder_only_inputs, encoder_decoder_inputs
from compacter_exporters.graph_names import name_cache
from compacter_exporters.source_model import SourceModel


def export_graphs(source: SourceModel, *, opset: int | None, scratch: Path) -> dict[str, onnx_ir.Model]:
    """The model's graphs by file name, with dynamic axes; `scratch` stays unused."""
    del scratch
    match source.task:
        case Task.TEXT_GENERATION:
            graphs = {MODEL_FILE: (source.model, decoder_only_inputs(source))}
        case Task.TEXT2TEXT_GENERATION:
            without, cached = encoder_decoder_inputs(source)
            graphs = {
                ENCODER_FILE: (source.model.get_encoder(), source.sample(2, 8)),
                DECODER_FILE: (source.model, without),
                DECODER_WITH_PAST_FILE: (source.model, cached),
            }
        case _:
            return {MODEL_FILE: _export_plain(source, opset)}
    return {name: name_cache(_export_cached(model, inputs, opset)) for name, (model, inputs) in graphs.items()}


def _export_plain(source: SourceModel, opset: int | None) -> onnx_ir.Model:
    """A graph without a cache.

    The axes are named, not automatic: should the export fix one of them, it fails instead of specialising silently.
    """
    inputs = source.sample(2, 8)
    axes = {0: torch.export.Dim("batch")}
    if not source.is_vision:
        axes[1] = torch.export.Dim("sequence", max=source.max_length)
    return _export(source.model, inputs, OnnxConfig(dynamic_shapes=dict.fromkeys(inputs, axes), opset_version=opset))


def _export_cached(model: Any, inputs: Mapping[str, Any], opset: int | None) -> onnx_ir.Model:
    """A graph that takes or gives a cache, whose axes the exporter relates to those of the other inputs by itself."""
    return _export(model, inputs, OnnxConfig(dynamic=True, opset_version=opset))


def _export(model: Any, inputs: Mapping[str, Any], config: OnnxConfig) -> onnx_ir.Model:
    program: onnx_ir.Model = OnnxExporter().export(model, dict(inputs), config=config).program
    return program
