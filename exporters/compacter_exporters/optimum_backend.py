"""Backbone to ONNX through optimum-onnx, which needs transformers 4."""

import copy
from pathlib import Path

import onnx_ir
import torch
from optimum.exporters.onnx import onnx_export_from_model

from compacter_exporters.source_model import SourceModel

_SEED = 0


def export_graphs(source: SourceModel, *, opset: int | None, scratch: Path) -> dict[str, onnx_ir.Model]:
    """The model's graphs by file name, with dynamic axes, written to `scratch` on their way.

    An encoder-decoder has an encoder and three decoders: without a cache, with it, and both as branches of one graph.

    optimum's own validation is left out: every backend's graph is checked in the same way afterwards. It gets a copy,
    for it changes the configuration of what it exports, and its random inputs are drawn from a fixed seed: some models
    refuse some inputs, so chance would decide whether a model can be exported.
    """
    task = f"{source.task.value}-with-past" if source.task.generates else source.task.value
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        onnx_export_from_model(copy.deepcopy(source.model), scratch, opset=opset, task=task, do_validation=False)
    return {path.name: onnx_ir.load(path) for path in sorted(scratch.glob("*.onnx"))}
