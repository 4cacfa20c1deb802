"""Ways to a graph: the second axis. A further one is an entry of `EXPORTERS`."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import onnx
import torch

from compacter_core.vocabulary import Activation
from compacter_exporters.backbone import export_backbone
from compacter_exporters.choices import MODEL_FILE, Backend
from compacter_exporters.quiet import quiet
from tests.export_matrix import pretrained
from tests.export_matrix.backbones import Backbone
from tests.exporters.optimised import How, optimise

Export = Callable[[Backbone, Path], Any]


@dataclass(frozen=True, slots=True)
class Exporter:
    """A way to a graph.

    Args:
        needs: module without which this environment does not have it.
        export: writes the graphs of a backbone to a new directory.
        has_adapter: whether the adapter is in the model when it is exported, so that none can be linked.
        backbones: those that it can do; None for all.
    """

    needs: str
    export: Export
    has_adapter: bool = False
    backbones: frozenset[str] | None = None

    @property
    def is_here(self) -> bool:
        """Whether this environment has it."""
        try:
            return find_spec(self.needs) is not None
        except ModuleNotFoundError:
            return False


def _plain(backbone: Backbone, backend: Backend) -> Path:
    """What an exporter of transformers' models writes, once for all that begin with it."""
    folder = backbone.checkpoint.with_name(backend.value)
    if not folder.exists():
        export_backbone(backbone.checkpoint, folder, task=backbone.task, backend=backend, pooling=backbone.pooling)
    return folder


def _as_exported(backend: Backend) -> Export:
    return lambda backbone, folder: shutil.copytree(_plain(backbone, backend), folder)


def _with_adapter(backend: Backend) -> Export:
    def export(backbone: Backbone, folder: Path) -> None:
        adapter = backbone.adapters[Activation.GELU_NEW]
        export_backbone(backbone.checkpoint, folder, task=backbone.task, backend=backend, adapter=adapter)

    return export


def _optimised(backend: Backend, how: How) -> Export:
    """As another optimiser left what an exporter wrote."""

    def export(backbone: Backbone, folder: Path) -> None:
        folder.mkdir()
        config = backbone.model.config
        sizes = {"heads": config.num_attention_heads, "hidden": config.hidden_size}
        kind = PYTHON_OPTIMISED.get(config.model_type, "")
        for path in _plain(backbone, backend).glob("*.onnx"):
            whole = folder / f"whole-{path.name}"
            onnx.save(onnx.load(path), whole)
            optimise(whole, how, folder / path.name, model_type=kind, **sizes)
            whole.unlink()

    return export


def _torch(backbone: Backbone, folder: Path) -> None:
    """`torch.onnx.export` as anybody calls it, without a cache; an encoder-decoder's two stacks in one graph."""
    model = copy.deepcopy(backbone.model)
    if backbone.task.generates:
        for config in (model.config, *(module.config for module in model.modules() if hasattr(module, "config"))):
            config.use_cache = False
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


PYTHON_OPTIMISED: Final = {
    **dict.fromkeys(("bert", "distilbert", "electra", "roberta", "xlm-roberta"), "bert"),
    "gpt2": "gpt2",
}
"""Architectures that `onnxruntime.transformers` has an optimiser for, to its name."""

_HERE: Final = {Backend.TRANSFORMERS: "transformers.exporters", Backend.OPTIMUM: "optimum"}


def _of(backend: Backend) -> dict[str, Exporter]:
    needs, some = _HERE[backend], frozenset({*PYTHON_OPTIMISED, pretrained.NAME})
    return {
        f"{backend}": Exporter(needs, _as_exported(backend)),
        f"{backend}, adapter inside": Exporter(needs, _with_adapter(backend), has_adapter=True),
        f"{backend}, ORT-saved": Exporter(needs, _optimised(backend, How.EXTENDED)),
        f"{backend}, Python-optimised": Exporter(needs, _optimised(backend, How.TRANSFORMERS), backbones=some),
    }


EXPORTERS: Final = {
    **_of(Backend.TRANSFORMERS),
    **_of(Backend.OPTIMUM),
    "torch": Exporter("transformers.exporters", _torch),
}
