"""Graphs for a target: what is quantised, halved and fused, what is left alone, and what is refused."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.metadata import extract
from compacter_exporters.operators import count_fused
from compacter_exporters.optimise.choices import Fuser, Precision, Target
from compacter_exporters.optimise.fusing import fuse
from compacter_exporters.optimise.integers import quantise
from compacter_exporters.optimise.recipe import Recipe, build
from compacter_exporters.optimise.targets import TRAITS, check_operators
from compacter_exporters.verify import AGREEMENT, verify
from tests.exporters.branches import in_branches
from tests.exporters.conftest import Exported
from tests.exporters.optimised import How, optimise
from tests.exporters.test_exports import run, trained

INTEGERS = (Precision.INT8, Precision.INT4)
FORMS = (Form.FOLD, Form.PLAIN)
WEIGHTS = {Precision.INT8: "MatMulInteger", Precision.INT4: "MatMulNBits"}


def refused(backbone: Path, adapter: Adapter, output: Path, recipe: Recipe) -> CompacterError:
    with pytest.raises(CompacterError) as caught:
        build(backbone, adapter, output, recipe)
    assert not output.exists()
    return caught.value


def nodes(path: Path, op_type: str) -> list[ir.Node]:
    return [node for node in load_graph(path).graph if node.op_type == op_type]


@pytest.mark.spec("ONX-38", "ONX-22")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("precision", INTEGERS)
@pytest.mark.parametrize("exporter", ["torchscript17", "dynamo"])
def test_integers_are_the_backbones_alone(
    exported: Exported, tmp_path: Path, exporter: str, precision: Precision, form: Form
) -> None:
    backbone, (adapter, _) = exported("bert", exporter), trained("bert")
    graft(backbone, adapter, tmp_path / "float.onnx", form=form)
    build(backbone, adapter, tmp_path / "model.onnx", Recipe(precision=precision, form=form))
    assert extract(tmp_path / "model.onnx") == adapter_bytes(adapter)
    report = verify(tmp_path / "model.onnx", adapter)
    assert report.ok, report.as_text()
    wanted = {"MatMul"} if precision is Precision.INT4 else {"MatMul", "Gemm"}
    layers = [
        node
        for node in load_graph(tmp_path / "float.onnx").graph
        if node.op_type in wanted and node.inputs[1] is not None and node.inputs[1].const_value is not None
    ]
    own = [node for node in layers if str(node.inputs[1].name).startswith("compacter/")]  # type: ignore[union-attr]
    assert len(own) >= 2 * len(adapter.config.sites)
    assert len(nodes(tmp_path / "model.onnx", WEIGHTS[precision])) == len(layers) - len(own)


@pytest.mark.spec("ONX-38")
@pytest.mark.parametrize("precision", INTEGERS)
def test_integers_cost_less_than_leaving_the_adapter_out(
    exported: Exported, tmp_path: Path, precision: Precision
) -> None:
    backbone, (adapter, _) = exported("bert", "torchscript17"), trained("bert")
    graft(backbone, adapter, tmp_path / "float.onnx")
    build(backbone, adapter, tmp_path / "model.onnx", Recipe(precision=precision))
    expected = run(tmp_path / "float.onnx")
    errors = [
        np.abs(run(path) - expected).max() for path in (tmp_path / "float.onnx", tmp_path / "model.onnx", backbone)
    ]
    assert errors == sorted(set(errors))


def test_nothing_to_quantise_is_refused(exported: Exported, tmp_path: Path) -> None:
    backbone, (adapter, _) = exported("bert", "torchscript17"), trained("bert")
    build(backbone, adapter, tmp_path / "once.onnx", Recipe(precision=Precision.INT8))
    with pytest.raises(CompacterError, match="no linear layer") as caught:
        quantise(tmp_path / "once.onnx", tmp_path / "twice.onnx", Precision.INT8)
    assert caught.value.code is ErrorCode.E605


def test_layers_without_names_are_quantised(exported: Exported, tmp_path: Path) -> None:
    backbone, (adapter, _) = exported("bert", "torchscript17"), trained("bert")
    graft(backbone, adapter, tmp_path / "named.onnx")
    model = onnx.load(tmp_path / "named.onnx")
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, tmp_path / "unnamed.onnx")
    for name in ("named", "unnamed"):
        quantise(tmp_path / f"{name}.onnx", tmp_path / f"{name}-int8.onnx", Precision.INT8)
    assert np.array_equal(run(tmp_path / "unnamed-int8.onnx"), run(tmp_path / "named-int8.onnx"))


def test_products_in_branches_that_name_no_types(exported: Exported, tmp_path: Path) -> None:
    """As ONNX Runtime saves merged decoders: the branches compute what the graph without branches does."""
    saved = optimise(exported("bert", "torchscript17"), How.EXTENDED, tmp_path / "saved.onnx")
    graft(saved, trained("bert")[0], tmp_path / "plain.onnx")
    model = onnx.load(tmp_path / "plain.onnx")
    onnx.save(in_branches(model, condition="computed"), tmp_path / "branches.onnx")
    for name in ("plain", "branches"):
        quantise(tmp_path / f"{name}.onnx", tmp_path / f"{name}-int8.onnx", Precision.INT8)
    np.testing.assert_allclose(
        run(tmp_path / "branches-int8.onnx"), run(tmp_path / "plain-int8.onnx"), rtol=0, atol=AGREEMENT
    )


@pytest.mark.spec("ONX-39")
def test_halves_are_rounded_once_and_keep_inputs_and_outputs(exported: Exported, tmp_path: Path) -> None:
    backbone, (adapter, _) = exported("bert", "torchscript17"), trained("bert")
    build(backbone, adapter, tmp_path / "model.onnx", Recipe(Target.CUDA, Precision.FP16))
    assert extract(tmp_path / "model.onnx") == adapter_bytes(adapter)
    report = verify(tmp_path / "model.onnx", adapter)
    assert report.ok, report.as_text()
    before, after = load_graph(backbone).graph, load_graph(tmp_path / "model.onnx").graph
    assert [(one.name, one.dtype) for one in after.inputs] == [(one.name, one.dtype) for one in before.inputs]
    assert [one.dtype for one in after.outputs] == [one.dtype for one in before.outputs]
    types = {value.dtype for value in after.initializers.values() if value.dtype and value.dtype.is_floating_point()}
    assert types == {ir.DataType.FLOAT16}
    graft(backbone, adapter, tmp_path / "float.onnx")
    for name, value in load_graph(tmp_path / "float.onnx").graph.initializers.items():
        if name.startswith("compacter/default/encoder.0.ffn/up.weight"):
            single, half = (one.const_value for one in (value, after.initializers[name]))
            assert single is not None and half is not None
            assert np.array_equal(half.numpy(), single.numpy().astype(np.float16))


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("target", Target)
def test_precisions_without_kernels_are_refused(
    exported: Exported, tmp_path: Path, target: Target, precision: Precision
) -> None:
    adapter, _ = trained("bert")
    if precision in TRAITS[target].precisions:
        assert Recipe.best_known(target, precision, Form.AUTO, adapter).precision is precision
        return
    recipe = Recipe(target, precision)
    error = refused(exported("bert", "torchscript17"), adapter, tmp_path / "model.onnx", recipe)
    assert error.code is ErrorCode.E001
    with pytest.raises(CompacterError, match=precision.value):
        Recipe.best_known(target, precision, Form.AUTO, adapter)


@pytest.mark.parametrize(
    ("exporter", "fuser", "expected"),
    [
        ("dynamo", Fuser.ONNXSCRIPT, "Attention"),
        ("torchscript17", Fuser.TRANSFORMERS, "SkipLayerNormalization"),
        ("torchscript17", Fuser.SESSION, "BiasGelu"),
    ],
)
def test_a_graft_keeps_what_was_fused_before(
    exported: Exported, tmp_path: Path, exporter: str, fuser: Fuser, expected: str
) -> None:
    backbone, (adapter, _) = exported("bert", exporter), trained("bert")
    graft(backbone, adapter, tmp_path / "plain.onnx")
    build(backbone, adapter, tmp_path / "model.onnx", Recipe(Target.CUDA, fuser=fuser))
    fuse(backbone, tmp_path / "fused.onnx", fuser, adapter.config, Target.CUDA)
    alone = count_fused(tmp_path / "fused.onnx")
    merged = count_fused(tmp_path / "model.onnx", besides="compacter/")
    assert alone[expected] > 0
    assert {name: merged.get(name, 0) for name in alone} == alone
    report = verify(tmp_path / "model.onnx", adapter)
    assert report.ok, report.as_text()
    plain, fused = run(tmp_path / "plain.onnx"), run(tmp_path / "model.onnx")
    assert np.abs(fused - plain).max() <= AGREEMENT * np.abs(plain).max()


def test_attention_is_fused_for_cuda() -> None:
    adapter, _ = trained("bert")
    assert Recipe.best_known(Target.CUDA, Precision.FP16, Form.AUTO, adapter).fuser is Fuser.ONNXSCRIPT


def test_a_fuser_that_fails_is_reported(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    (tmp_path / "broken.onnx").write_bytes(exported("bert", "torchscript17").read_bytes()[:-100])
    for fuser in (Fuser.SESSION, Fuser.ONNXSCRIPT, Fuser.TRANSFORMERS):
        with pytest.raises(CompacterError, match=fuser.value) as caught:
            fuse(tmp_path / "broken.onnx", tmp_path / "fused.onnx", fuser, adapter.config, Target.CPU)
        assert caught.value.code is ErrorCode.E605


@pytest.mark.spec("ONX-40")
@pytest.mark.parametrize("form", FORMS)
def test_tensorrt_gets_operators_of_the_standard_alone(exported: Exported, tmp_path: Path, form: Form) -> None:
    backbone, (adapter, _) = exported("bert", "torchscript17"), trained("bert")
    build(backbone, adapter, tmp_path / "model.onnx", Recipe(Target.TENSORRT, form=form))
    assert {node.domain for node in load_graph(tmp_path / "model.onnx").graph} == {""}
    error = refused(backbone, adapter, tmp_path / "fused.onnx", Recipe(Target.TENSORRT, fuser=Fuser.SESSION))
    assert error.code is ErrorCode.E605
    assert "com.microsoft" in str(error)


@pytest.mark.spec("ONX-40")
@pytest.mark.parametrize(("opset", "allowed"), [(8, False), (9, True), (24, True), (25, False)])
def test_opsets_that_tensorrt_does_not_read(opset: int, *, allowed: bool) -> None:
    model = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": opset}), ir_version=10)
    if allowed:
        check_operators(model, Target.TENSORRT)
        return
    with pytest.raises(CompacterError, match="opset") as caught:
        check_operators(model, Target.TENSORRT)
    assert caught.value.code is ErrorCode.E605


def test_grafting_twice_is_refused_before_anything_is_done(exported: Exported, tmp_path: Path) -> None:
    backbone, (adapter, _) = exported("bert", "torchscript17"), trained("bert")
    graft(backbone, adapter, tmp_path / "once.onnx")
    recipe = Recipe(precision=Precision.INT8)
    assert refused(tmp_path / "once.onnx", adapter, tmp_path / "twice.onnx", recipe).code is ErrorCode.E605
