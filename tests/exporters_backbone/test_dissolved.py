"""Adapters without an activation in the weights of models that generate text: Gemm, caches, branches."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compacter_core.methods import create_config
from compacter_core.pytorch import attach, describe_backbone, detach
from compacter_core.vocabulary import Activation
from compacter_exporters.choices import Backend
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.optimise.choices import Precision
from compacter_exporters.optimise.integers import quantise
from compacter_exporters.verify import verify
from compacter_runtime.decoder import GraphDecoder
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.generators import Generator, generated, greedy_in_graphs, trained


@pytest.mark.spec("ONX-4", "ONX-30")
@pytest.mark.parametrize("model_type", ["gpt2", "t5"])
def test_greedy_tokens_are_pytorchs(
    make_generator: Callable[[Backend, str], Generator], model_type: str, tmp_path: Path
) -> None:
    generator = make_generator(BACKENDS[0], model_type)
    model, prompts, merged = generator.model, generator.prompts, tmp_path / "merged"
    bare = generated(model, prompts, beams=1)
    backbone = describe_backbone(model)
    config = create_config(backbone, reduction_factor=4, phm_dim=2, non_linearity=Activation.IDENTITY)
    attached = attach(model, config, generator=7)
    draws = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in attached.trainable_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draws))
    adapter, expected = attached.to_adapter(), generated(model, prompts, beams=1)
    detach(model)
    assert not (expected.shape == bare.shape and torch.equal(expected, bare))
    if generator.is_encoder_decoder:
        reports = graft_directory(generator.graphs, adapter, merged, form=Form.DISSOLVED).graphs
    else:
        report = graft(generator.graphs / "model.onnx", adapter, merged / "model.onnx", form=Form.DISSOLVED)
        reports = {"model.onnx": report}
    for name, one in reports.items():
        assert set(one.forms.values()) == {"dissolved"}
        assert f"{name}.own.data" in one.data_files or not one.data_files
    verified = verify(merged if generator.is_encoder_decoder else merged / "model.onnx", adapter)
    assert verified.ok, verified.as_text()
    assert set(verified.forms.values()) == {"dissolved"}
    tokens, _ = greedy_in_graphs(GraphDecoder.load(merged), prompts.numpy())
    assert torch.equal(torch.from_numpy(tokens), expected)


@pytest.mark.spec("ONX-30", "ONX-38")
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT4])
def test_a_layer_with_an_adapter_in_it_stays_in_float(
    make_generator: Callable[[Backend, str], Generator], precision: Precision, tmp_path: Path
) -> None:
    generator, merged, quantised = make_generator(BACKENDS[0], "gpt2"), tmp_path / "merged.onnx", tmp_path / "q.onnx"
    adapter = trained(generator.model, non_linearity=Activation.IDENTITY)
    detach(generator.model)
    graft(generator.graphs / "model.onnx", adapter, merged, form=Form.DISSOLVED)
    assert quantise(merged, quantised, precision)
    verified = verify(quantised, adapter)
    assert verified.ok, verified.as_text()
    assert set(verified.forms.values()) == {"dissolved"}
