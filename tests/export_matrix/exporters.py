"""Ways to a graph: the second axis. A further one is an entry of `EXPORTERS`."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import onnxruntime
import torch

from compacter_exporters.backbone import export_backbone
from compacter_exporters.choices import MODEL_FILE, Backend
from compacter_exporters.quiet import quiet
from tests.export_matrix.backbones import Backbone


@dataclass(frozen=True, slots=True)
class Exporter:
    """A way to a graph.

    Args:
        needs: module without which this environment does not have it.
        export: writes the graphs of a backbone to a new directory.
    """

    needs: str
    export: Callable[[Backbone, Path], None]

    @property
    def is_here(self) -> bool:
        """Whether this environment has it."""
        try:
            return find_spec(self.needs) is not None
        except ModuleNotFoundError:
            return False


def _with(backend: Backend) -> Callable[[Backbone, Path], None]:
    def export(backbone: Backbone, folder: Path) -> None:
        export_backbone(backbone.checkpoint, folder, task=backbone.task, backend=backend)

    return export


def _optimised(backend: Backend) -> Callable[[Backbone, Path], None]:
    """As ONNX Runtime saves a graph after its own fusions, without those for one machine's memory layout."""

    def export(backbone: Backbone, folder: Path) -> None:
        plain = folder.with_name(f"{folder.name}-plain")
        export_backbone(backbone.checkpoint, plain, task=backbone.task, backend=backend)
        folder.mkdir()
        for path in plain.glob("*.onnx"):
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.optimized_model_filepath = str(folder / path.name)
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        shutil.rmtree(plain)

    return export


def _torch(backbone: Backbone, folder: Path) -> None:
    """`torch.onnx.export` as anybody calls it, without a cache; an encoder-decoder's two stacks in one graph."""
    model = copy.deepcopy(backbone.model)
    if backbone.task.generates:
        model.config.use_cache = False
    inputs = {name: tensor[:2] for name, tensor in backbone.inputs.items()}
    axes: dict[str, dict[int, Any]] = {
        name: {0: torch.export.Dim.DYNAMIC} | ({1: torch.export.Dim.DYNAMIC} if tensor.ndim == 2 else {})
        for name, tensor in inputs.items()
    }
    folder.mkdir()
    with quiet():
        torch.onnx.export(
            model,
            (),
            str(folder / MODEL_FILE),
            kwargs=inputs,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_shapes=axes,
            dynamo=True,
            verbose=False,
        )


EXPORTERS: Final = {
    "transformers": Exporter("transformers.exporters", _with(Backend.TRANSFORMERS)),
    "optimum": Exporter("optimum", _with(Backend.OPTIMUM)),
    "torch": Exporter("transformers.exporters", _torch),
    "transformers, ORT-saved": Exporter("transformers.exporters", _optimised(Backend.TRANSFORMERS)),
    "optimum, ORT-saved": Exporter("optimum", _optimised(Backend.OPTIMUM)),
}
