"""Grafts into pre-norm models without a cache: every placement gives PyTorch's outputs and passes `verify`."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageClassification

from compacter_core.adapter import Adapter, Array
from compacter_core.config import ATTACH_PRESETS
from compacter_core.pytorch import detach
from compacter_exporters.graft import graft
from compacter_exporters.verify import AGREEMENT, verify
from tests.pytorch.helpers import attach_trained, tiny_adapter_config
from tests.support.backbones import BACKBONES, VOCABULARY, randomise

# GPT-2's graph by this exporter computes something else than the model: it is tested with its cache.
MODEL_TYPES = ("gemma", "llama", "mistral", "phi3", "qwen2", "qwen3", "vit")


class Only(nn.Module):
    """A model that takes tensors by position and returns its logits alone, as this exporter wants it."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**dict(zip(self.names, inputs, strict=True)), use_cache=False).logits
        return logits


class OnlyImages(Only):
    """The same for images."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(*inputs).logits
        return logits


def tiny(model_type: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model with its head, and inputs."""
    config = AutoConfig.for_model(model_type, vocab_size=VOCABULARY, **BACKBONES[model_type])
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        if model_type == "vit":
            model = AutoModelForImageClassification.from_config(config)
            inputs = {"pixel_values": torch.randn(2, 3, 8, 8, generator=generator)}
        else:
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
            tokens = torch.randint(3, VOCABULARY, (2, 8), generator=generator)
            inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    randomise(model)
    return model.eval(), inputs


def export(model: Any, inputs: dict[str, torch.Tensor], path: Path) -> None:
    names = list(inputs)
    dynamic = {0: "batch"} if "pixel_values" in inputs else {0: "batch", 1: "sequence"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            (OnlyImages if "pixel_values" in inputs else Only)(model, names),
            tuple(inputs.values()),
            str(path),
            input_names=names,
            output_names=["logits"],
            dynamic_axes=dict.fromkeys(names, dynamic) | {"logits": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )


def run(path: Path, inputs: dict[str, torch.Tensor]) -> Array:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})[0])


def trained(model: Any, inputs: dict[str, torch.Tensor], preset: str) -> tuple[Adapter, Array]:
    """An adapter with its norms, and what PyTorch says with it."""
    attached = attach_trained(model, tiny_adapter_config(model, attach=ATTACH_PRESETS[preset]), train_head=False)
    with torch.no_grad():
        expected = model(**inputs).logits.numpy()
    adapter = attached.to_adapter()
    detach(model)
    return adapter, expected


@pytest.mark.spec("ONX-1", "ONX-4", "ONX-10", "ONX-11")
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_placements_against_pytorch(model_type: str, tmp_path: Path) -> None:
    model, inputs = tiny(model_type)
    backbone, merged = tmp_path / "backbone.onnx", tmp_path / "merged.onnx"
    export(model, inputs, backbone)
    bare = run(backbone, inputs)
    for preset in ATTACH_PRESETS:
        adapter, expected = trained(model, inputs, preset)
        assert adapter.config.overrides
        graft(backbone, adapter, merged)
        scale = np.abs(expected).max()
        assert np.abs(bare - expected).max() > 100 * AGREEMENT * scale
        assert np.abs(run(merged, inputs) - expected).max() <= AGREEMENT * scale
        report = verify(merged, adapter)
        assert report.ok, report.as_text()
        assert set(report.sites) == {site.id for site in adapter.config.sites}
        assert len(report.norms) == len(adapter.config.backbone.norms if adapter.config.backbone else ())


@pytest.mark.spec("ONX-1", "ONX-11")
@pytest.mark.parametrize("model_type", ["gemma", "llama"])
def test_half_precision_with_norms_in_single(model_type: str, tmp_path: Path) -> None:
    model, inputs = tiny(model_type)
    model = model.half()
    export(model, inputs, tmp_path / "backbone.onnx")
    adapter, expected = trained(model, inputs, "houlsby")
    graft(tmp_path / "backbone.onnx", adapter, tmp_path / "merged.onnx")
    report = verify(tmp_path / "merged.onnx", adapter)
    assert report.ok, report.as_text()
    bare, got = run(tmp_path / "backbone.onnx", inputs), run(tmp_path / "merged.onnx", inputs)
    assert np.abs(got - expected).max() < np.abs(bare - expected).max() / 10
