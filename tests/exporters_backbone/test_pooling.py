"""Graphs whose head reads the mean of the last hidden states (ONX-50): export, graft, every linkage, verification."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.pooling import pool_before_head
from compacter_core.vocabulary import Pooling
from compacter_exporters.backbone import export_backbone
from compacter_exporters.graft import graft
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.verify import AGREEMENT, verify
from tests.exporters.optimised import How, optimise
from tests.exporters.quantising import Int8, int8
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.conftest import Exported
from tests.pytorch.helpers import attach_trained, logits
from tests.support.models import tiny_inputs, tiny_model

Trained = tuple[Adapter, torch.Tensor]


@pytest.fixture(scope="module")
def trained() -> Trained:
    """An adapter whose head reads the mean, and PyTorch's logits with it."""
    model = tiny_model("bert", layers=1)
    adapter = attach_trained(model, pooling=Pooling.MEAN).to_adapter()
    with torch.no_grad():
        return adapter, logits(model, tiny_inputs())


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory, trained: Trained) -> Path:
    """The backbone, exported with the mean before its head."""
    checkpoint = tmp_path_factory.mktemp("checkpoint")
    tiny_model("bert", layers=1).save_pretrained(checkpoint)
    output = tmp_path_factory.mktemp("exported") / "backbone"
    return export_backbone(checkpoint, output, backend=BACKENDS[0], pooling=Pooling.MEAN)


def assert_agrees(path: Path, expected: torch.Tensor) -> None:
    """The graph's logits are PyTorch's."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {name: value.numpy() for name, value in tiny_inputs().items()}
    inputs["token_type_ids"] = np.zeros_like(inputs["input_ids"])
    got = session.run(["logits"], {one.name: inputs[one.name] for one in session.get_inputs()})[0]
    assert np.abs(got - expected.numpy()).max() <= AGREEMENT * expected.abs().max().item()


@pytest.mark.spec("ONX-50")
def test_the_exported_backbone_reads_it(pooled: Path) -> None:
    model = tiny_model("bert", layers=1)
    pool_before_head(model, Pooling.MEAN)
    with torch.no_grad():
        assert_agrees(pooled, logits(model, tiny_inputs()))


@pytest.mark.spec("ONX-4", "ONX-50", "NUM-19")
@pytest.mark.parametrize("how", [None, How.BASIC, How.EXTENDED], ids=str)
def test_merged(pooled: Path, tmp_path: Path, trained: Trained, how: How | None) -> None:
    backbone = pooled if how is None else optimise(pooled, how, tmp_path / "backbone.onnx")
    adapter, expected = trained
    graft(backbone, adapter, tmp_path / "merged.onnx")
    assert_agrees(tmp_path / "merged.onnx", expected)
    report = verify(tmp_path / "merged.onnx", adapter)
    assert report.ok, report.as_text()
    assert set(report.head) == {"mean", "classifier"}


@pytest.mark.spec("ONX-50")
def test_merged_into_an_int8_backbone(pooled: Path, tmp_path: Path, trained: Trained) -> None:
    backbone = int8(pooled, tmp_path / "backbone.onnx", Int8(per_channel=True))
    graft(backbone, trained[0], tmp_path / "merged.onnx")
    report = verify(tmp_path / "merged.onnx", trained[0])
    assert report.ok, report.as_text()


@pytest.mark.spec("ONX-50")
@pytest.mark.parametrize("open_up", [graft_swappable, graft_bank])
def test_open_linkages(
    pooled: Path, tmp_path: Path, trained: Trained, open_up: Callable[[Path, Adapter, Path], object]
) -> None:
    open_up(pooled, trained[0], tmp_path / "open.onnx")
    report = verify(tmp_path / "open.onnx", trained[0])
    assert report.ok, report.as_text()


@pytest.mark.spec("ONX-50")
def test_a_graph_that_reads_something_else_is_refused(
    exported_bert: Exported, pooled: Path, tmp_path: Path, trained: Trained
) -> None:
    with pytest.raises(CompacterError, match="--pooling mean") as caught:
        graft(exported_bert.model, trained[0], tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E604
    # And the other way round: a pooler is looked for where the graph has a mean.
    model = tiny_model("bert", layers=1)
    with pytest.raises(CompacterError) as caught:
        graft(pooled, attach_trained(model).to_adapter(), tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E604
    assert not any(tmp_path.iterdir())


def _product(model: ir.Model) -> None:
    """The sum is multiplied by the number of tokens."""
    _node(model, "Div", of="ReduceSum").op_type = "Mul"


def _squares(model: ir.Model) -> None:
    """Hidden states are weighted with themselves, not with the mask."""
    node = _node(model, "Mul", before="ReduceSum")
    node.replace_input_with(1, node.inputs[0])
    node.replace_input_with(0, node.inputs[0])


def _node(model: ir.Model, op_type: str, *, of: str | None = None, before: str | None = None) -> ir.Node:
    for node in reversed(list(model.graph)):
        producer = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        follows = of is None or (producer is not None and producer.op_type == of)
        leads = before is None or any(use.node.op_type == before for use in node.outputs[0].uses())
        if node.op_type == op_type and follows and leads:
            return node
    raise LookupError(op_type)


@pytest.mark.spec("ONX-50")
@pytest.mark.parametrize("damage", [_product, _squares])
def test_other_sums_are_no_mean(
    pooled: Path, tmp_path: Path, trained: Trained, damage: Callable[[ir.Model], None]
) -> None:
    graft(pooled, trained[0], tmp_path / "merged.onnx")
    model = ir.load(tmp_path / "merged.onnx")
    ir.external_data.load_to_model(model)
    damage(model)
    ir.save(model, tmp_path / "damaged.onnx")
    report = verify(tmp_path / "damaged.onnx", trained[0])
    assert "mean of the last hidden states" in str(report.head)
