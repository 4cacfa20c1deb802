"""Residual sums kept from being fused with norms: what a session makes of them, and grafts into such graphs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.forms import Form
from compacter_exporters.fused.apart import observe, put_together, take_apart
from compacter_exporters.graft import graft
from compacter_exporters.graph import is_op, load_graph
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.optimise import tuning
from compacter_exporters.optimise.choices import Precision, Target
from compacter_exporters.optimise.measuring import Timing
from compacter_exporters.optimise.recipe import Recipe, build
from compacter_exporters.optimise.shapes import Shape
from compacter_exporters.optimise.sums import keep_sums_apart
from compacter_exporters.optimise.tuning import tune
from compacter_exporters.verify import AGREEMENT, verify
from tests.exporters.conftest import Exported
from tests.exporters.optimised import How, optimise
from tests.exporters.test_exports import check, run, trained
from tests.support.models import tiny_inputs

APART = Recipe(sums_apart=True)
SKIP_NORM = "SkipLayerNormalization"


def counted(path: Path, op_type: str) -> int:
    return sum(node.op_type == op_type for node in load_graph(path).graph.all_nodes())


def loaded(path: Path) -> Path:
    """What a session makes of a graph."""
    folder = path.parent / "loaded"
    folder.mkdir(exist_ok=True)
    return optimise(path, How.EXTENDED, folder / path.name)


def without_fusion(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
    )
    return np.asarray(session.run(["logits"], {name: value.numpy() for name, value in tiny_inputs().items()})[0])


def apart(backbone: Path, target: Path) -> Path:
    """The backbone itself with its sums apart."""
    model = load_graph(backbone)
    keep_sums_apart(model)
    ir.save(model, target, external_data=f"{target.name}.data")
    return target


@pytest.mark.parametrize("form", [Form.AUTO, Form.FOLD, Form.PLAIN])
def test_a_session_fuses_none_and_computes_the_same_bits(exported: Exported, tmp_path: Path, form: Form) -> None:
    backbone, (adapter, _) = exported("bert", "dynamo"), trained("bert")
    graft(backbone, adapter, tmp_path / "usual.onnx", form=form)
    build(backbone, adapter, tmp_path / "apart.onnx", replace(APART, form=form))
    assert counted(loaded(tmp_path / "usual.onnx"), SKIP_NORM) > 0
    assert counted(loaded(tmp_path / "apart.onnx"), SKIP_NORM) == 0
    assert np.array_equal(run(tmp_path / "apart.onnx"), without_fusion(tmp_path / "usual.onnx"))
    report = verify(tmp_path / "apart.onnx", adapter)
    assert report.ok, report.as_text()


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT4])
def test_sums_stay_apart_when_weights_are_quantised(exported: Exported, tmp_path: Path, precision: Precision) -> None:
    backbone, (adapter, _) = exported("bert", "dynamo"), trained("bert")
    build(backbone, adapter, tmp_path / "apart.onnx", replace(APART, precision=precision))
    assert counted(loaded(tmp_path / "apart.onnx"), SKIP_NORM) == 0
    report = verify(tmp_path / "apart.onnx", adapter)
    assert report.ok, report.as_text()


def test_sums_that_an_optimiser_fused_come_apart(exported: Exported, tmp_path: Path) -> None:
    fused, (adapter, logits) = loaded(exported("bert", "dynamo")), trained("bert")
    assert counted(fused, SKIP_NORM) > 0
    build(fused, adapter, tmp_path / "apart.onnx", APART)
    assert counted(tmp_path / "apart.onnx", SKIP_NORM) == 0
    expected = logits.numpy()
    assert np.abs(run(tmp_path / "apart.onnx") - expected).max() <= AGREEMENT * np.abs(expected).max()


@pytest.mark.spec("ONX-4", "ONX-28")
@pytest.mark.parametrize("form", [Form.AUTO, Form.FOLD, Form.PLAIN])
def test_grafts_into_such_a_graph_leave_its_sums(exported: Exported, tmp_path: Path, form: Form) -> None:
    backbone = apart(exported("bert", "dynamo"), tmp_path / "backbone.onnx")
    check(backbone, tmp_path / "merged.onnx", *trained("bert"), form)
    assert counted(tmp_path / "merged.onnx", "Sum") == counted(backbone, "Sum") > 0


def test_such_a_graph_opens_for_adapters(exported: Exported, tmp_path: Path) -> None:
    backbone, (adapter, _) = apart(exported("bert", "dynamo"), tmp_path / "backbone.onnx"), trained("bert")
    graft_swappable(backbone, adapter, tmp_path / "swappable.onnx")
    report = verify(tmp_path / "swappable.onnx", adapter)
    assert report.ok, report.as_text()


def test_a_sum_of_two_is_an_add_until_it_is_written(exported: Exported, tmp_path: Path) -> None:
    path = apart(exported("bert", "dynamo"), tmp_path / "backbone.onnx")
    model, same = load_graph(path), load_graph(path)
    wanted = [str(node) for node in same.graph]
    observe(same)
    assert [str(node) for node in same.graph] == wanted
    take_apart(model)
    assert not any(is_op(node, "Sum") for node in model.graph)
    put_together(model)
    assert [str(node) for node in model.graph] == wanted


def test_a_graph_without_such_sums_is_refused(exported: Exported, tmp_path: Path) -> None:
    backbone = apart(exported("bert", "dynamo"), tmp_path / "backbone.onnx")
    with pytest.raises(CompacterError) as caught:
        keep_sums_apart(load_graph(backbone))
    assert caught.value.code is ErrorCode.E605


@pytest.mark.spec("ONX-41")
@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_they_are_written_where_they_were_measured_to_be_faster(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float
) -> None:
    backbone, (adapter, _) = exported("bert", "dynamo"), trained("bert")
    name = "none, fold, sums apart"

    def timed(arms: dict[str, object], *_: object) -> dict[str, Timing]:
        return {one: Timing(1.0, *[ratio if one == name else 1.0] * 2) for one in arms}

    monkeypatch.setattr(tuning, "measure", timed)
    report = tune(backbone, adapter, tmp_path / "model.onnx", Recipe(form=Form.FOLD), (Shape(1, 4),))
    assert [one.problem for one in report.tried if one.name == name] == [None]
    assert (report.winner == name) == (ratio < 1) == (counted(tmp_path / "model.onnx", "Sum") > 0)
    assert verify(tmp_path / "model.onnx", adapter).ok


def test_other_targets_do_not_try_them() -> None:
    adapter, _ = trained("bert")
    tried = {target: [one.sums_apart for one in tuning._candidates(Recipe(target), adapter)] for target in Target}
    assert {target for target, apart in tried.items() if any(apart)} == {Target.CPU}
