"""Residual sums kept from being fused with norms: what a session makes of them, and grafts into such graphs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from compacter_core.format.writer import adapter_bytes
from compacter_core.linkage.kinds import Linkage
from compacter_core.vocabulary import NormStyle
from compacter_exporters.forms import Form
from compacter_exporters.fused.apart import observe, put_together, take_apart
from compacter_exporters.graft import graft
from compacter_exporters.graph import is_op, load_graph
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.opening import OpenReport
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.metadata import extract
from compacter_exporters.optimise import tuning
from compacter_exporters.optimise.choices import Precision, Target
from compacter_exporters.optimise.measuring import Timing
from compacter_exporters.optimise.recipe import Recipe, build
from compacter_exporters.optimise.recipe_set import build_directory
from compacter_exporters.optimise.shapes import Shape
from compacter_exporters.optimise.sums import keep_sums_apart, sums_before_norms
from compacter_exporters.optimise.targets import TRAITS
from compacter_exporters.optimise.tuning import tune
from compacter_exporters.verify import AGREEMENT, verify
from tests.exporters.conftest import Exported
from tests.exporters.optimised import How, optimise
from tests.exporters.quantising import Int8, int8
from tests.exporters.rms_spellings import RmsSpelling
from tests.exporters.stacks import BackboneStack, StackOptions
from tests.exporters.test_exports import check, run, trained
from tests.exporters.test_faults import make
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


@pytest.mark.parametrize("form", [Form.BIAS_LAST, Form.FOLD, Form.PLAIN])
def test_a_session_fuses_none_and_computes_the_same_bits(exported: Exported, tmp_path: Path, form: Form) -> None:
    backbone, (adapter, _) = exported("bert", "dynamo"), trained("bert")
    graft(backbone, adapter, tmp_path / "usual.onnx", form=form)
    build(backbone, adapter, tmp_path / "apart.onnx", replace(APART, form=form))
    assert counted(loaded(tmp_path / "usual.onnx"), SKIP_NORM) > 0
    assert counted(loaded(tmp_path / "apart.onnx"), SKIP_NORM) == 0
    assert np.array_equal(run(tmp_path / "apart.onnx"), without_fusion(tmp_path / "usual.onnx"))
    assert extract(tmp_path / "apart.onnx") == adapter_bytes(adapter)
    report = verify(tmp_path / "apart.onnx", adapter)
    assert report.ok, report.as_text()


@pytest.mark.parametrize("form", [Form.BIAS_FIRST, Form.COLUMN])
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript17"])
def test_a_difference_has_the_bits_of_the_sum(exported: Exported, tmp_path: Path, exporter: str, form: Form) -> None:
    backbone, (adapter, _) = exported("bert", exporter), trained("bert")
    graft(backbone, adapter, tmp_path / "merged.onnx", form=form)
    assert counted(loaded(tmp_path / "merged.onnx"), SKIP_NORM) == 0
    sums = load_graph(tmp_path / "merged.onnx")
    take_apart(sums)
    ir.save(sums, tmp_path / "sums.onnx", external_data="sums.onnx.data")
    assert counted(tmp_path / "sums.onnx", "Sub") < counted(tmp_path / "merged.onnx", "Sub")
    assert np.array_equal(run(tmp_path / "merged.onnx"), without_fusion(tmp_path / "sums.onnx"))


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT4])
def test_sums_stay_apart_when_weights_are_quantised(exported: Exported, tmp_path: Path, precision: Precision) -> None:
    backbone, (adapter, _) = exported("bert", "dynamo"), trained("bert")
    build(backbone, adapter, tmp_path / "apart.onnx", replace(APART, precision=precision))
    assert counted(loaded(tmp_path / "apart.onnx"), SKIP_NORM) == 0
    report = verify(tmp_path / "apart.onnx", adapter)
    assert report.ok, report.as_text()


def test_a_bias_stays_where_a_quantised_product_takes_it(exported: Exported, tmp_path: Path) -> None:
    backbone = exported("bert", "dynamo")
    quantised = int8(backbone, tmp_path / "int8.onnx", Int8())
    for path, told in ((quantised, False), (backbone, True)):
        model = load_graph(path)
        sums = len(sums_before_norms(model))
        keep_sums_apart(model, quantised=told)
        assert sum(is_op(node, "Sum") for node in model.graph) == sums > 1


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
    export = exported("bert", "dynamo")
    check(apart(export, tmp_path / "backbone.onnx"), tmp_path / "merged.onnx", *trained("bert"), form)
    assert (
        len(sums_before_norms(load_graph(export))) > 0 == len(sums_before_norms(load_graph(tmp_path / "merged.onnx")))
    )


def test_such_a_graph_opens_for_adapters(exported: Exported, tmp_path: Path) -> None:
    backbone, (adapter, _) = apart(exported("bert", "dynamo"), tmp_path / "backbone.onnx"), trained("bert")
    graft_swappable(backbone, adapter, tmp_path / "swappable.onnx")
    report = verify(tmp_path / "swappable.onnx", adapter)
    assert report.ok, report.as_text()


def test_sums_and_differences_are_adds_until_they_are_written(exported: Exported, tmp_path: Path) -> None:
    path = apart(exported("bert", "dynamo"), tmp_path / "backbone.onnx")
    model, same = load_graph(path), load_graph(path)
    wanted = [str(node) for node in same.graph]
    observe(same)
    assert [str(node) for node in same.graph if not is_op(node, "Neg")] == wanted
    take_apart(model)
    assert len(sums_before_norms(model)) == len(sums_before_norms(load_graph(exported("bert", "dynamo")))) > 1
    put_together(model)
    assert sorted(str(node) for node in model.graph) == sorted(wanted)
    assert model.graph.initializers.keys() == load_graph(path).graph.initializers.keys()


@pytest.mark.spec("ONX-52")
def test_a_graph_without_such_sums_stays_as_it_is(tmp_path: Path) -> None:
    stack = BackboneStack(StackOptions(rms=RmsSpelling.DIVIDED), hidden=8, seed=0)
    backbone = stack.save(tmp_path / "backbone.onnx")
    adapter = make(stack)
    build(backbone, adapter, tmp_path / "apart.onnx", APART)
    assert counted(tmp_path / "apart.onnx", "Sum") == 0
    report = verify(tmp_path / "apart.onnx", adapter)
    assert report.ok, report.as_text()


@pytest.mark.spec("ONX-52")
@pytest.mark.parametrize("norm_style", NormStyle)
def test_sums_that_others_read_too_stay_as_they_are(tmp_path: Path, norm_style: NormStyle) -> None:
    backbone = BackboneStack(StackOptions(norm_style=norm_style), hidden=8, seed=0).save(tmp_path / "backbone.onnx")
    model = load_graph(apart(backbone, tmp_path / "apart.onnx"))
    unchanged = [str(node) for node in model.graph] == [str(node) for node in load_graph(backbone).graph]
    assert unchanged == (norm_style is NormStyle.PRE)


@pytest.mark.spec("ONX-52")
@pytest.mark.parametrize("precision", TRAITS[Target.CPU].precisions)
def test_they_are_apart_in_what_is_made_for_cpus(exported: Exported, tmp_path: Path, precision: Precision) -> None:
    backbone, (adapter, _) = exported("bert", "dynamo"), trained("bert")
    recipes = {target: Recipe.best_known(target, Precision.FP32, Form.AUTO, adapter) for target in Target}
    assert {target for target, recipe in recipes.items() if recipe.sums_apart} == {Target.CPU}
    recipe = replace(recipes[Target.CPU], precision=precision)
    report = build(backbone, adapter, tmp_path / "apart.onnx", recipe)
    assert set(report.forms.values()) == {Form.BIAS_FIRST if precision.quantises else Form.COLUMN}
    assert counted(loaded(tmp_path / "apart.onnx"), SKIP_NORM) == 0
    verified = verify(tmp_path / "apart.onnx", adapter)
    assert verified.ok, verified.as_text()


@pytest.mark.spec("ONX-52")
def test_a_directory_for_cpus_has_them_apart_in_every_graph(exported: Exported, tmp_path: Path) -> None:
    source, (adapter, _) = tmp_path / "source", trained("bert")
    source.mkdir()
    backbone = exported("bert", "dynamo")
    for name in ("first.onnx", "second.onnx"):
        ir.save(ir.load(backbone), source / name, external_data=f"{name}.data")
    build_directory(source, adapter, tmp_path / "made", APART)
    for name in ("first.onnx", "second.onnx"):
        made = tmp_path / "made" / name
        assert len(sums_before_norms(load_graph(source / name))) > 0 == len(sums_before_norms(load_graph(made)))
        assert counted(made, "Sub") > counted(source / name, "Sub")
        assert extract(made) == adapter_bytes(adapter)
    report = verify(tmp_path / "made" / "first.onnx", adapter)
    assert report.ok, report.as_text()


@pytest.mark.spec("ONX-52", "LNK-1", "LNK-2")
@pytest.mark.parametrize("opening", [graft_swappable, graft_bank])
@pytest.mark.parametrize("preset", ["houlsby", "parallel"])
def test_graphs_that_take_adapters_have_them_apart(
    exported: Exported, tmp_path: Path, opening: Callable[..., OpenReport], preset: str
) -> None:
    backbone, (adapter, _) = exported("bert", "dynamo"), trained("bert", preset=preset)
    opening(backbone, adapter, tmp_path / "usual.onnx")
    opening(backbone, adapter, tmp_path / "open.onnx", sums_apart=True)
    assert counted(loaded(tmp_path / "open.onnx"), SKIP_NORM) == 0
    # A difference of a difference for each site, and in some norms another.
    more = counted(tmp_path / "open.onnx", "Sub") - counted(tmp_path / "usual.onnx", "Sub")
    assert more >= 2 * len(adapter.config.sites)
    report = verify(tmp_path / "open.onnx", adapter)
    assert report.ok, report.as_text()
    if opening is graft_swappable:
        assert np.array_equal(run(tmp_path / "open.onnx"), without_fusion(backbone))


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
    for linkage in Linkage:
        candidates = {target: tuning._candidates(Recipe(target), adapter, linkage) for target in Target}
        apart = {target for target, found in candidates.items() if any(one.sums_apart for one in found)}
        assert apart == {Target.CPU}
