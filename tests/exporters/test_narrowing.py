"""fp16 and bf16 graphs: what is rounded, what is cast, what stays in fp32, and bf16 by ONNX's own evaluator."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from compacter_core.adapter import Array
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters import probe
from compacter_exporters.graph import load_graph
from compacter_exporters.optimise.choices import Precision, Target
from compacter_exporters.optimise.kernels import kernels_of
from compacter_exporters.optimise.narrowing import narrow, rounded
from compacter_exporters.optimise.recipe import Recipe, build
from compacter_exporters.verify import verify
from tests.exporters.conftest import Exported
from tests.exporters.test_exports import trained

NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
BF16_TARGETS = (Target.CUDA, Target.TENSORRT)


def model_of(text: str) -> ir.Model:
    """A model in ONNX's text format."""
    return ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]>\n{text}'))


def casts(model: ir.Model) -> Counter[int]:
    """How many Casts to each type."""
    return Counter(node.attributes["to"].as_int() for node in model.graph.all_nodes() if node.op_type == "Cast")


@pytest.mark.spec("ONX-49")
@pytest.mark.parametrize("dtype", NARROW)
@given(value=st.floats(width=32, allow_nan=False))
def test_constants_stay_finite_and_do_not_vanish(dtype: ir.DataType, value: float) -> None:
    limits: Any = ml_dtypes.finfo(dtype.numpy())
    (got,) = rounded(np.array([value], np.float32), dtype).astype(np.float64)
    assert np.isfinite(got) == np.isfinite(value)
    assert (got == 0) == (value == 0)
    if np.isfinite(value):
        assert abs(got) <= float(limits.max)
        bounded = float(np.clip(value, -float(limits.max), float(limits.max)))
        # Half a step of a normal number, or a whole one of those below, where one number does not become zero.
        assert abs(got - bounded) <= max(float(limits.eps) / 2 * abs(bounded), float(limits.smallest_subnormal))


@pytest.mark.spec("ONX-49")
def test_a_matrix_may_have_zeros_where_numbers_were_tiny() -> None:
    got = rounded(np.array([1e-30, 1.0], np.float32), ir.DataType.FLOAT16)
    assert got.tolist() == [0.0, 1.0]


@pytest.mark.spec("ONX-47")
@pytest.mark.parametrize("dtype", NARROW)
def test_a_value_is_cast_once_for_all_its_readers(dtype: ir.DataType) -> None:
    model = model_of("g (float[2] x) => (float[2] y) { a = Add(x, x) b = Mul(a, x) c = Sub(a, b) y = Relu(c) }")
    narrow(model, dtype)
    assert casts(model) == {int(dtype): 1, int(ir.DataType.FLOAT): 1}
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


@pytest.mark.spec("ONX-47")
def test_a_node_in_fp32_between_others() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { a = Add(x, x) b = Mul(a, a) c = Sub(b, a) y = Relu(c) }")
    narrow(model, ir.DataType.FLOAT16, wide=[node for node in model.graph if node.op_type == "Mul"])
    assert casts(model) == {int(ir.DataType.FLOAT16): 2, int(ir.DataType.FLOAT): 2}
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


@pytest.mark.spec("ONX-47")
def test_an_operator_whose_schema_does_not_allow_the_type() -> None:
    model = model_of(
        "g (float[2] x, float n) => (float[m] y) { a = Add(x, x) r = Range(n, n, n) y = Concat <axis = 0> (a, r) }"
    )
    narrow(model, ir.DataType.FLOAT16)
    (node,) = [node for node in model.graph if node.op_type == "Range"]
    assert all(value is not None and value.dtype is ir.DataType.FLOAT for value in node.inputs)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


@pytest.mark.spec("ONX-39")
def test_branches_keep_the_types_of_their_outputs() -> None:
    model = model_of(
        "g (bool c, float[2] x) => (float[2] y) { a = Add(x, x) y = If (c) <"
        "then_branch = t () => (float[2] p) { p = Mul(a, x) }, else_branch = e () => (float[2] q) { q = Relu(a) }> }"
    )
    narrow(model, ir.DataType.FLOAT16)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    x = np.array([1.5, -2.0], np.float32)
    for taken, expected in ((True, [4.5, 8.0]), (False, [3.0, 0.0])):
        got = _in_numpy(proto, {"c": np.array(taken), "x": x})["y"]
        assert got.dtype == np.float32 and got.tolist() == expected


def test_a_constant_that_is_read_in_both_types_is_there_in_both() -> None:
    model = model_of("g (float[2] x) => (float[2] y) <float[1] w = {0.1}> { a = Add(x, w) b = Mul(a, w) y = Relu(b) }")
    narrow(model, ir.DataType.FLOAT16, wide=[node for node in model.graph if node.op_type == "Mul"])
    values = {str(v.name): v.const_value for v in model.graph.initializers.values()}
    assert {str(one.dtype) for one in values.values() if one is not None} == {"FLOAT", "FLOAT16"}
    single = values["w"]
    assert single is not None and single.numpy()[0] == np.float32(0.1)


@pytest.mark.spec("ONX-48")
@pytest.mark.parametrize("target", BF16_TARGETS)
def test_bf16_graphs_hold_what_the_reference_computes(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Target
) -> None:
    """All checks of `verify`, with onnx.reference where ONNX Runtime runs otherwise: its CPU provider has no bf16."""
    adapter, _ = trained("bert", preset="houlsby")
    build(exported("bert", "torchscript17"), adapter, tmp_path / "model.onnx", Recipe(target, Precision.BF16))
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    with pytest.raises(CompacterError) as caught:
        verify(tmp_path / "model.onnx", adapter)
    assert caught.value.code is ErrorCode.E704
    monkeypatch.setattr(probe, "run_with", _probed)
    monkeypatch.setattr(probe, "run_model", _plain)
    report = verify(tmp_path / "model.onnx", adapter)
    assert report.ok, report.as_text()
    assert max(check.ratio for check in report.sites.values()) > 2.0**-12, "a bound that is never near says nothing"


def _probed(
    model: ir.Model, _: Path, inputs: Mapping[str, Array], values: Sequence[ir.Value], *__: object, **___: object
) -> dict[str, Array]:
    model.graph.outputs.extend(value for value in values if not value.is_graph_output())
    return _in_numpy(ir.to_proto(ir.external_data.load_to_model(model)), inputs)


def _plain(path: Path, inputs: Mapping[str, Array], *_: object, **__: object) -> dict[str, Array]:
    return _in_numpy(onnx.load(path), inputs)


def _in_numpy(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    evaluator = ReferenceEvaluator(model)
    return dict(zip(evaluator.output_names, evaluator.run(None, dict(inputs)), strict=True))


@pytest.mark.spec("ONX-48")
def test_nodes_without_a_kernel_in_bf16_stay_in_fp32() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { a = Add(x, x) b = Reciprocal(a) y = Relu(b) }")
    narrow(model, ir.DataType.BFLOAT16, has_kernel=kernels_of(Target.CUDA, Precision.BF16))
    kinds = {node.op_type: node.inputs[0].dtype for node in model.graph if node.inputs[0] is not None}
    assert kinds["Reciprocal"] is ir.DataType.FLOAT
    assert kinds["Relu"] is kinds["Add"] is ir.DataType.BFLOAT16


@pytest.mark.spec("ONX-48", "ONX-40")
def test_bf16_for_cpus_is_refused_with_the_targets_that_have_it(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    with pytest.raises(CompacterError, match="cuda, tensorrt") as caught:
        build(exported("bert", "torchscript17"), adapter, tmp_path / "m.onnx", Recipe(Target.CPU, Precision.BF16))
    assert caught.value.code is ErrorCode.E001
    assert not (tmp_path / "m.onnx").exists()


def test_what_onnx_runtime_calls_valid_is_loaded_again(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    build(exported("bert", "dynamo"), adapter, tmp_path / "m.onnx", Recipe(Target.TENSORRT, Precision.FP16))
    assert all(node.domain == "" for node in load_graph(tmp_path / "m.onnx").graph.all_nodes())
