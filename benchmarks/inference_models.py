"""The graphs that the inference benchmark runs: one random backbone, its precisions, and adapters in every linkage."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.optimizer import optimize_model
from transformers import BertConfig, BertForSequenceClassification

from compacter_core.adapter import Adapter
from compacter_core.format.reader import load_adapter
from compacter_core.methods import create_config
from compacter_core.pytorch import attach, describe_backbone, save_pretrained
from compacter_exporters.backbone import export_backbone
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.optimise import choices
from compacter_exporters.optimise.recipe import Recipe, build
from compacter_exporters.optimise.sums import keep_sums_apart

SIZES: Final = {
    "minilm": BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=8
    ),
    "base": BertConfig(num_labels=8),
    "tiny": BertConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256, num_labels=8
    ),
}
"""The last one's times say nothing: it is there to see that everything runs."""
VOCABULARY: Final = 1000
"""Tokens that inputs are drawn from."""


class Precision(StrEnum):
    """What the backbone's weights are stored and multiplied in. Adapters stay in float32."""

    FP32 = "fp32"
    INT8 = "int8"


class Arm(StrEnum):
    """What is timed."""

    BACKBONE = "backbone"
    FUSED = "backbone, fused"
    APART = "backbone, sums apart"
    MERGED = "merged"
    MERGED_APART = "merged, sums apart"
    MERGED_KERNELS = "merged, kernels"
    SWAPPABLE = "swappable"
    BANK = "bank"
    SHARED = "bank, shared norms"
    SWAPPABLE_KERNELS = "swappable, kernels"
    BANK_KERNELS = "bank, kernels"
    SHARED_KERNELS = "bank, shared norms, kernels"
    ROWS = "rows"
    ADAPTERHUB = "adapterhub"
    ADAPTERHUB_FUSED = "adapterhub, fused"

    @property
    def file(self) -> str:
        """The graph that it runs."""
        kind = Arm.MERGED_APART if self is Arm.ROWS else self
        return f"{kind.value.replace(', ', '-').replace(' ', '-')}.onnx"

    @property
    def is_bare(self) -> bool:
        """Whether it has no adapter."""
        return self in (Arm.BACKBONE, Arm.FUSED, Arm.APART)

    @property
    def is_bank(self) -> bool:
        """Whether each row has another adapter."""
        return self in (Arm.BANK, Arm.SHARED, Arm.BANK_KERNELS, Arm.SHARED_KERNELS)

    @property
    def is_swappable(self) -> bool:
        """Whether its adapter is given with the run."""
        return self in (Arm.SWAPPABLE, Arm.SWAPPABLE_KERNELS)

    @property
    def shares_norms(self) -> bool:
        """Whether all rows have the backbone's norms."""
        return self in (Arm.SHARED, Arm.SHARED_KERNELS)

    @property
    def uses_kernels(self) -> bool:
        """Whether its adapters are calls, run by the kernels of compacter_runtime."""
        return self in (Arm.MERGED_KERNELS, Arm.SWAPPABLE_KERNELS, Arm.BANK_KERNELS, Arm.SHARED_KERNELS)

    @property
    def form(self) -> Form:
        """How it is grafted for CPUs."""
        return Form.SUBLAYER if self.uses_kernels else Form.AUTO

    @property
    def is_merged(self) -> bool:
        """Whether it is one adapter in one graph, for all rows at once, in ONNX Runtime's own operators."""
        return self in (Arm.MERGED, Arm.MERGED_APART)


class Models:
    """The graphs in a directory, each made when it is first asked for.

    Args:
        directory: where they are kept.
        size: key of `SIZES`.
        precision: of the backbone.
    """

    def __init__(self, directory: Path, size: str, precision: Precision) -> None:
        self._directory = directory
        self._size = size
        self._precision = precision
        self._graphs = directory / precision
        self._makers: Mapping[Arm, Callable[[Path], Any]] = {
            Arm.BACKBONE: self._backbone,
            Arm.FUSED: self._fused,
            Arm.APART: self._apart,
            Arm.MERGED: lambda path: graft(self.path(Arm.BACKBONE), self.file, path),
            **{arm: partial(self._merged_for_cpu, arm) for arm in (Arm.MERGED_APART, Arm.MERGED_KERNELS, Arm.ROWS)},
            **{arm: partial(self._opened, arm) for arm in Arm if arm.is_swappable or arm.is_bank},
            Arm.ADAPTERHUB_FUSED: lambda path: _optimise(self.path(Arm.ADAPTERHUB), path, self._config),
        }

    @property
    def _config(self) -> BertConfig:
        return SIZES[self._size]

    @property
    def file(self) -> Path:
        """The adapter's file, with norms and head."""
        self._source()
        return self._directory / "adapter" / "adapter_model.safetensors"

    def adapter(self) -> Adapter:
        """The adapter."""
        return load_adapter(self.file)

    def without_norms(self) -> Adapter:
        """The adapter with its head and without norms: the rows of a bank then share the backbone's."""
        adapter = self.adapter()
        kept = {name: array for name, array in adapter.tensors.items() if not name.startswith("override.")}
        return replace(adapter, config=replace(adapter.config, overrides=()), tensors=kept)

    def path(self, arm: Arm) -> Path:
        """The graph of an arm.

        Raises:
            FileNotFoundError: for AdapterHub's own export, which `benchmarks.adapterhub_export` makes.
        """
        path = self._graphs / arm.file
        if not path.exists():
            if arm not in self._makers:
                raise FileNotFoundError(f"{path}: made by .venv-interop/bin/python -m benchmarks.adapterhub_export")
            self._graphs.mkdir(parents=True, exist_ok=True)
            self._makers[arm](path)
        return path

    def _source(self) -> Path:
        """The random checkpoint, with the adapter beside it."""
        source = self._directory / "source"
        if not (self._directory / "adapter").exists():
            torch.manual_seed(0)
            model = BertForSequenceClassification(self._config).eval()
            model.save_pretrained(source)
            attach(model, create_config(describe_backbone(model)), generator=0)
            with torch.no_grad():
                for parameter in filter(lambda one: one.requires_grad, model.parameters()):
                    parameter.add_(0.02 * torch.randn(parameter.shape))
            save_pretrained(model, self._directory / "adapter")
        return source

    def _exported(self) -> Path:
        """The export in float32."""
        folder = self._directory / "exported"
        if not folder.exists():
            export_backbone(self._source(), folder)
        return folder / "model.onnx"

    def _backbone(self, path: Path) -> None:
        self._in_precision(onnx.load(self._exported()), path)

    def _fused(self, path: Path) -> None:
        whole = self._directory / "fused.onnx"
        if not whole.exists():
            _optimise(self._exported(), whole, self._config)
        self._in_precision(onnx.load(whole), path)

    def _apart(self, path: Path) -> None:
        whole = self._directory / f"apart-{self._precision}.onnx"
        if not whole.exists():
            model = load_graph(self._exported())
            keep_sums_apart(model, quantised=self._precision is Precision.INT8)
            ir.save(model, whole, external_data=f"{whole.name}.data")
        self._in_precision(onnx.load(whole), path)

    def template(self, arm: Arm) -> Adapter:
        """The adapter that an arm's graph is made for."""
        return self.without_norms() if arm.shares_norms else self.adapter()

    def _opened(self, arm: Arm, path: Path) -> None:
        open_for = graft_bank if arm.is_bank else graft_swappable
        open_for(self.path(Arm.BACKBONE), self.template(arm), path, sums_apart=True, form=arm.form)

    def _merged_for_cpu(self, arm: Arm, path: Path) -> None:
        """As `graft --target cpu` makes it. Its precision fp32 leaves the backbone's weights as they are, int8 too."""
        recipe = Recipe.best_known(choices.Target.CPU, choices.Precision.FP32, arm.form, self.adapter())
        build(self.path(Arm.BACKBONE), self.file, path, recipe)

    def _in_precision(self, model: onnx.ModelProto, path: Path) -> None:
        if self._precision is Precision.INT8:
            quantize_dynamic(model, path, weight_type=QuantType.QInt8, use_external_data_format=True)
        else:
            onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")


def another(adapter: Adapter, index: int) -> Adapter:
    """An adapter like the given one, with other values."""
    tensors = {name: array * np.float32(1 + index / 64) for name, array in adapter.tensors.items()}
    return replace(adapter, config=replace(adapter.config, name=f"n{index}"), tensors=tensors)


def _optimise(source: Path, target: Path, config: BertConfig) -> None:
    """What `onnxruntime.transformers` fuses: attention, skip-norms, embeddings."""
    heads, width = config.num_attention_heads, config.hidden_size
    model = optimize_model(str(source), model_type="bert", num_heads=heads, hidden_size=width, opt_level=0)
    model.save_model_to_file(str(target), use_external_data_format=True)
