"""Grafts into optimised graphs: PyTorch's outputs, every check of `verify`, and no fused operator is lost."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from compacter_core.adapter import Adapter
from compacter_core.config import ATTACH_PRESETS
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.forms import Form
from compacter_exporters.fused.apart import put_together, take_apart
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.operators import count_fused
from compacter_exporters.verify import AGREEMENT, verify
from compacter_runtime import Session
from tests.exporters.conftest import Exported
from tests.exporters.optimised import How, optimise
from tests.exporters.test_exports import check, run, trained
from tests.exporters.test_pre_norm import export, tiny
from tests.exporters.test_pre_norm import run as run_pre_norm
from tests.exporters.test_pre_norm import trained as trained_pre_norm
from tests.support.models import tiny_inputs

ENCODERS = (
    ("bert", "dynamo", How.EXTENDED),
    ("bert", "torchscript14", How.TRANSFORMERS),
    ("bert", "torchscript17", How.BASIC),
    ("bert", "torchscript17", How.EXTENDED),
    ("distilbert", "torchscript17", How.TRANSFORMERS),
    ("roberta", "torchscript17", How.TRANSFORMERS),
)
PRE_NORM = (
    ("llama", How.EXTENDED, "gpt2"),
    ("llama", How.TRANSFORMERS, "gpt2"),
    ("vit", How.TRANSFORMERS, "vit"),
)
SKIP_NORM = "SkipLayerNormalization"


def own(backbone: Path) -> dict[str, int]:
    """Fused operators of a backbone."""
    return count_fused(backbone)


def kept(merged: Path, backbone: Path) -> dict[str, int]:
    """Those of its types in a grafted graph, without the adapter's."""
    counts = count_fused(merged, besides="compacter/")
    return {name: counts.get(name, 0) for name in own(backbone)}


@pytest.mark.spec("ONX-4", "ONX-27", "ONX-28")
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
@pytest.mark.parametrize("case", ENCODERS, ids="-".join)
def test_encoders_against_pytorch(exported: Exported, tmp_path: Path, case: tuple[str, str, How], preset: str) -> None:
    model_type, exporter, how = case
    backbone = optimise(exported(model_type, exporter), how, tmp_path / "backbone.onnx")
    check(backbone, tmp_path / "merged.onnx", *trained(model_type, preset=preset))
    assert kept(tmp_path / "merged.onnx", backbone) == own(backbone)
    if how is not How.BASIC:
        assert own(backbone)["BiasGelu"] > 0


@pytest.mark.spec("ONX-4", "ONX-27", "ONX-28")
@pytest.mark.parametrize("case", PRE_NORM, ids="-".join)
def test_pre_norm_models_against_pytorch(tmp_path: Path, case: tuple[str, How, str]) -> None:
    name, how, kind = case
    model, inputs = tiny(name)
    export(model, inputs, tmp_path / "exported.onnx")
    backbone = optimise(tmp_path / "exported.onnx", how, tmp_path / "backbone.onnx", model_type=kind)
    assert how is How.EXTENDED or any(operator.startswith("Skip") for operator in own(backbone))
    for preset in ATTACH_PRESETS:
        adapter, expected = trained_pre_norm(model, inputs, preset)
        graft(backbone, adapter, tmp_path / "merged.onnx")
        difference = np.abs(run_pre_norm(tmp_path / "merged.onnx", inputs) - expected).max()
        assert difference <= AGREEMENT * np.abs(expected).max()
        report = verify(tmp_path / "merged.onnx", adapter)
        assert report.ok, report.as_text()
        assert len(report.norms) == len(adapter.config.backbone.norms if adapter.config.backbone else ())
        assert kept(tmp_path / "merged.onnx", backbone) == own(backbone)


@pytest.mark.spec("ONX-28")
def test_fold_keeps_the_bias_within_the_operator(exported: Exported, tmp_path: Path) -> None:
    """All of SkipLayerNormalization's inputs; and no node more than the adapter's five: two MatMuls, GELU, two Adds."""
    backbone, (adapter, _) = _skip_normed(exported, tmp_path), trained("bert")
    graft(backbone, adapter, tmp_path / "merged.onnx", form=Form.FOLD)
    graph = load_graph(tmp_path / "merged.onnx").graph
    nodes = [node for node in graph if node.op_type == SKIP_NORM]
    assert [len(node.inputs) for node in nodes] == [5] * len(adapter.config.sites)
    before = len(list(load_graph(backbone).graph))
    assert len(list(graph)) - before == 5 * len(adapter.config.sites)


@pytest.mark.spec("ONX-27")
@pytest.mark.parametrize("case", ENCODERS, ids="-".join)
def test_a_graph_nobody_changes_is_the_same_again(
    exported: Exported, tmp_path: Path, case: tuple[str, str, How]
) -> None:
    model_type, exporter, how = case
    backbone = optimise(exported(model_type, exporter), how, tmp_path / "backbone.onnx")
    model, again = ir.load(backbone), ir.load(backbone)
    take_apart(again)
    assert not any(node.op_type in (SKIP_NORM, "FusedGemm") for node in again.graph)
    put_together(again)
    assert _nodes(again) == _nodes(model)
    assert again.graph.initializers.keys() == model.graph.initializers.keys()


@pytest.mark.spec("LNK-1", "LNK-2", "LNK-11", "LNK-12")
@pytest.mark.parametrize("preset", ["houlsby", "pfeiffer", "parallel"])
def test_open_graphs_against_pytorch(exported: Exported, tmp_path: Path, preset: str) -> None:
    backbone, (adapter, logits) = _skip_normed(exported, tmp_path), trained("bert", preset=preset)
    inputs = {name: value.numpy() for name, value in tiny_inputs().items()}
    expected, bare = logits.numpy(), run(backbone)
    graft_swappable(backbone, adapter, tmp_path / "swappable.onnx")
    swappable = Session(tmp_path / "swappable.onnx")
    got = swappable.run(inputs, adapter=swappable.load_adapter(adapter))["logits"]
    assert np.abs(got - expected).max() <= AGREEMENT * np.abs(expected).max()
    assert np.array_equal(swappable.run(inputs)["logits"], bare)
    graft_bank(backbone, adapter, tmp_path / "bank.onnx")
    bank = Session(tmp_path / "bank.onnx")
    rows = bank.run(inputs, adapter=[bank.bank.add(adapter), None, None])["logits"]
    wanted = np.stack([expected[0], bare[1], bare[2]])
    assert np.abs(rows - wanted).max() <= AGREEMENT * np.abs(expected).max()
    assert kept(tmp_path / "swappable.onnx", backbone) == own(backbone)
    for linkage in ("swappable", "bank"):
        report = verify(tmp_path / f"{linkage}.onnx", adapter)
        assert report.ok, report.as_text()


@pytest.mark.spec("ONX-29")
@pytest.mark.parametrize("fault", ["bias", "gain", "bypass", "activation"])
def test_faults_within_fused_operators_are_found(exported: Exported, tmp_path: Path, fault: str) -> None:
    backbone, (adapter, _) = _skip_normed(exported, tmp_path), trained("bert", train_pooler=True)
    graft(backbone, adapter, tmp_path / "merged.onnx")
    assert verify(tmp_path / "merged.onnx", adapter).ok
    model = onnx.load(tmp_path / "merged.onnx")
    last = [node for node in model.graph.node if node.op_type == SKIP_NORM][-1]
    match fault:
        case "bias":
            _scale(model, last.input[4])
        case "gain":
            _scale(model, last.input[2])
        case "bypass":
            add = next(node for node in model.graph.node if node.output[0] in last.input[:2] and node.op_type == "Add")
            last.input[list(last.input).index(add.output[0])] = add.input[0]
        case "activation":
            fused = next(node for node in model.graph.node if node.op_type == "FusedGemm")
            _scale(model, fused.input[1])
    onnx.save(model, tmp_path / "faulty.onnx")
    assert _is_found(tmp_path / "faulty.onnx", adapter)


def _is_found(path: Path, adapter: Adapter) -> bool:
    try:
        return not verify(path, adapter).ok
    except CompacterError as error:
        return error.code in (ErrorCode.E403, ErrorCode.E604)


def _scale(model: onnx.ModelProto, name: str) -> None:
    """Change a constant by one part in a thousand."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.001), name))


def _skip_normed(exported: Exported, folder: Path) -> Path:
    return optimise(exported("bert", "dynamo"), How.EXTENDED, folder / "backbone.onnx")


def _nodes(model: ir.Model) -> list[tuple[object, ...]]:
    """What the nodes of a model are, in an order of their own."""
    graph = ir.to_proto(model).graph
    return sorted(
        (
            node.domain,
            node.op_type,
            node.name,
            tuple(node.input),
            tuple(node.output),
            repr(
                sorted((one.name, helper.get_attribute_value(one)) for one in node.attribute if one.type != one.GRAPH)
            ),
        )
        for node in graph.node
    )
