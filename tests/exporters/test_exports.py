"""Grafts into exports of transformers models: the same outputs as PyTorch, and every check of `verify` passes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from compacter_core.adapter import Adapter
from compacter_core.config import ATTACH_PRESETS
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes, save_adapter
from compacter_core.methods import Method, create_config
from compacter_core.pytorch import attach, describe_backbone
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.metadata import extract
from compacter_exporters.verify import AGREEMENT, verify
from tests.exporters.conftest import Exported
from tests.support.models import MODEL_TYPES, tiny_inputs, tiny_model

EXPORTERS = ("torchscript14", "torchscript17")


def trained(
    model_type: str, *, method: Method = Method.COMPACTER, preset: str = "houlsby", train_pooler: bool = False
) -> tuple[Adapter, torch.Tensor]:
    """An adapter with random values, norms and head included, and PyTorch's logits with it."""
    model = tiny_model(model_type)
    config = create_config(
        describe_backbone(model), method=method, reduction_factor=4, phm_dim=2, attach=ATTACH_PRESETS[preset]
    )
    attached = attach(model, config, train_pooler=train_pooler)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in attached.trainable_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        logits = model(**tiny_inputs()).logits
    return attached.to_adapter(), logits


def run(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {name: value.numpy() for name, value in tiny_inputs().items()})[0])


def check(backbone: Path, output: Path, adapter: Adapter, logits: torch.Tensor, form: Form = Form.AUTO) -> None:
    graft(backbone, adapter, output, form=form)
    got, expected = run(output), logits.numpy()
    assert np.abs(got - expected).max() <= AGREEMENT * np.abs(expected).max()
    assert np.abs(run(backbone) - expected).max() > 100 * AGREEMENT * np.abs(expected).max()
    report = verify(output, adapter)
    assert report.ok, report.as_text()


@pytest.mark.spec("ONX-4")
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_placements_against_pytorch(
    exported: Exported, tmp_path: Path, model_type: str, preset: str, exporter: str
) -> None:
    check(exported(model_type, exporter), tmp_path / "merged.onnx", *trained(model_type, preset=preset))


@pytest.mark.spec("ONX-4")
@pytest.mark.parametrize("form", [Form.BIAS_LAST, Form.BIAS_FIRST, Form.COLUMN, Form.FOLD, Form.PLAIN])
@pytest.mark.parametrize("method", [Method.ADAPTER, Method.LOW_RANK, Method.PHM_ADAPTER, Method.COMPACTER_PLUS_PLUS])
def test_methods_against_pytorch(exported: Exported, tmp_path: Path, method: Method, form: Form) -> None:
    check(exported("bert", "torchscript17"), tmp_path / "merged.onnx", *trained("bert", method=method), form)


@pytest.mark.spec("ONX-12")
def test_a_trained_pooler_is_replaced(exported: Exported, tmp_path: Path) -> None:
    check(exported("bert", "torchscript17"), tmp_path / "merged.onnx", *trained("bert", train_pooler=True))


@pytest.mark.spec("ONX-8")
def test_another_pooler_is_refused(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    sketches = {name: array + 1 if "pooler.weight" in name else array for name, array in adapter.sketches.items()}
    with pytest.raises(CompacterError, match=r"bert\.pooler\.dense") as caught:
        graft(exported("bert", "torchscript17"), replace(adapter, sketches=sketches), tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E403


@pytest.mark.spec("ONX-8")
def test_a_pooler_whose_zero_bias_was_dropped_is_recognised(exported: Exported, tmp_path: Path) -> None:
    model = ir.load(exported("bert", "torchscript17"))
    pooler, _classifier = (node for node in model.graph if node.op_type == "Gemm")
    pooler.resize_inputs(2)
    ir.save(model, tmp_path / "backbone.onnx")
    adapter, _ = trained("bert")
    zero = {name: 0 * array if name == "sketch.pooler.bias" else array for name, array in adapter.sketches.items()}
    graft(tmp_path / "backbone.onnx", replace(adapter, sketches=zero), tmp_path / "merged.onnx")
    with pytest.raises(CompacterError, match=r"bert\.pooler\.dense"):
        graft(tmp_path / "backbone.onnx", adapter, tmp_path / "other.onnx")


def test_dynamo_export_against_pytorch(exported: Exported, tmp_path: Path) -> None:
    """One test for all, since this exporter is slow."""
    backbone = exported("bert", "dynamo")
    for form in (Form.BIAS_LAST, Form.BIAS_FIRST, Form.COLUMN, Form.FOLD, Form.PLAIN):
        check(backbone, tmp_path / f"{form}.onnx", *trained("bert"), form)
    check(backbone, tmp_path / "pfeiffer.onnx", *trained("bert", preset="pfeiffer"))


def test_fold_keeps_the_chain_that_optimisers_look_for(exported: Exported, tmp_path: Path) -> None:
    """LayerNorm <- Add <- Add <- MatMul of the sublayer's linear layer: as many Adds from MatMul to norm as before."""
    backbone, (adapter, _) = exported("bert", "torchscript17"), trained("bert")
    graft(backbone, adapter, tmp_path / "merged.onnx", form=Form.FOLD)
    assert _chains(tmp_path / "merged.onnx") == _chains(backbone)


@pytest.mark.spec("ONX-22")
def test_extraction_is_byte_for_byte(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    save_adapter(adapter, tmp_path / "adapter.safetensors")
    graft(exported("bert", "torchscript14"), tmp_path / "adapter.safetensors", tmp_path / "merged.onnx")
    assert (
        extract(tmp_path / "merged.onnx") == (tmp_path / "adapter.safetensors").read_bytes() == adapter_bytes(adapter)
    )


@pytest.mark.spec("ONX-42")
@pytest.mark.parametrize("form", [Form.BIAS_LAST, Form.FOLD])
def test_a_session_fuses_as_many_norms_with_their_bias(exported: Exported, tmp_path: Path, form: Form) -> None:
    """Only bias-last leaves the bias where a session looks for it."""
    backbone, (adapter, _) = exported("bert", "dynamo"), trained("bert")
    graft(backbone, adapter, tmp_path / "merged.onnx", form=form)
    alone = _norms_with_bias(backbone, tmp_path / "alone.onnx")
    kept = _norms_with_bias(tmp_path / "merged.onnx", tmp_path / "optimised.onnx")
    assert alone == len(adapter.config.sites)
    assert kept == (alone if form is Form.BIAS_LAST else 0)


def _norms_with_bias(source: Path, target: Path) -> int:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(target, load_external_data=False).graph.node
    return sum(node.op_type == "SkipLayerNormalization" and len(node.input) == 5 for node in nodes)


def _chains(path: Path) -> int:
    """How many norms are fed by Add(residual, Add(MatMul with the backbone's weight, anything))."""
    graph = load_graph(path).graph
    return sum(
        any(_is_biased_product(operand) for operand in _operands(node.inputs[0]))
        for node in graph
        if node.op_type == "LayerNormalization"
    )


def _operands(value: ir.Value | None) -> list[ir.Value]:
    node = None if value is None else value.producer()
    return [] if node is None or node.op_type != "Add" else [operand for operand in node.inputs if operand is not None]


def _is_biased_product(value: ir.Value) -> bool:
    producers = [operand.producer() for operand in _operands(value)]
    return any(
        node is not None and node.op_type == "MatMul" and not str(node.name).startswith("compacter/")
        for node in producers
    )
