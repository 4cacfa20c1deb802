"""A vision model: exported with fixed image sizes, grafted with its head, verified, and what PyTorch says."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoConfig, AutoModelForImageClassification

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch import save_pretrained
from compacter_exporters.backbone import export_backbone
from compacter_exporters.choices import Backend, Task
from compacter_exporters.graft import graft
from compacter_exporters.graph_check import RELATIVE_LIMIT
from compacter_exporters.verify import verify
from compacter_runtime import Session
from tests.exporters_backbone.backends import BACKENDS
from tests.pytorch.helpers import attach_trained, logits
from tests.support.backbones import BACKBONES, randomise


@pytest.mark.parametrize("backend", BACKENDS)
def test_graft_and_verify(backend: Backend, tmp_path: Path) -> None:
    config = AutoConfig.for_model("vit", num_labels=3, **BACKBONES["vit"])
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForImageClassification.from_config(config).eval()
    randomise(model)
    model.save_pretrained(tmp_path / "checkpoint")
    source, output = tmp_path / "checkpoint", tmp_path / "onnx"
    backbone = export_backbone(source, output, task=Task.IMAGE_CLASSIFICATION, backend=backend)
    (pixels,) = onnx.load(backbone, load_external_data=False).graph.input
    dims = [dim.dim_param or dim.dim_value for dim in pixels.type.tensor_type.shape.dim]
    assert (pixels.name, dims) == ("pixel_values", ["batch", 3, 8, 8])
    attach_trained(model)
    save_pretrained(model, tmp_path / "adapter")
    graft(backbone, tmp_path / "adapter", output / "merged.onnx")
    report = verify(output / "merged.onnx", tmp_path / "adapter")
    assert report.ok, report.as_text()
    assert report.head
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = logits(model, {"pixel_values": images}).numpy()
    got = Session(output / "merged.onnx").run({"pixel_values": images.numpy()})["logits"]
    assert np.abs(got - expected).max() <= RELATIVE_LIMIT * np.abs(expected).max()


def test_a_text_model_for_images_is_refused(tmp_path: Path) -> None:
    config = AutoConfig.for_model("bert", **BACKBONES["bert"])
    config.save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(CompacterError) as caught:
        export_backbone(tmp_path / "checkpoint", tmp_path / "out", task=Task.IMAGE_CLASSIFICATION, backend=BACKENDS[0])
    assert caught.value.code is ErrorCode.E005
