"""The form with functions of the model: the numbers of the plain form, in ONNX Runtime and in ONNX's reference."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from compacter_core.adapter import Adapter, Array
from compacter_core.cli.main import main
from compacter_core.config import ATTACH_PRESETS, Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.vocabulary import Activation, NormStyle
from compacter_exporters.agreement import agreement
from compacter_exporters.checks import Numbers
from compacter_exporters.forms import Form
from compacter_exporters.functions import DOMAIN, Kind, Signature
from compacter_exporters.graft import graft
from compacter_exporters.metadata import extract
from compacter_exporters.verify import verify
from compacter_exporters.weights import Weights
from compacter_runtime.loading import open_session, run_session
from tests.exporters.branches import in_branches
from tests.exporters.stacks import BackboneStack, StackOptions, make_adapter
from tests.exporters.test_branches import without_head
from tests.runtime.kernel_cases import model_of

TOKENS = np.array([[1, 2, 3], [4, 0, 1]])


def built(
    folder: Path,
    options: StackOptions | None = None,
    *,
    preset: str = "houlsby",
    activation: Activation = Activation.GELU,
    bias_down: bool = True,
    bias_up: bool = True,
) -> tuple[Path, Adapter]:
    stack = BackboneStack(options or StackOptions(), hidden=8, seed=0)
    backbone = stack.save(folder / "backbone.onnx")
    adapter = make_adapter(
        stack,
        projection=Projection.compacter(phm_dim=2),
        bottleneck=4,
        attach=ATTACH_PRESETS[preset],
        non_linearity=activation,
        bias_down=bias_down,
        bias_up=bias_up,
        scaling=0.5,
    )
    return backbone, adapter


def by_onnxruntime(path: Path, feed: dict[str, Array]) -> Array:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed)[0])


def by_reference(model: onnx.ModelProto, feed: dict[str, Array]) -> Array:
    results: Any = ReferenceEvaluator(model).run(None, feed)
    return np.asarray(results[0])


def by_session(path: Path, feed: dict[str, Array]) -> Array:
    """By the runtime's own session: with kernels, where there is a compiler."""
    return run_session(open_session(path, ["cpu"], None), None, feed, list(feed))[0]


def assert_same_numbers(
    backbone: Path, adapter: Adapter, *, form: Form = Form.FUNCTION, written: Form | None = None
) -> onnx.ModelProto:
    """Grafts plain and a form with calls, compares them in two runtimes and on kernels, verifies and extracts.

    Args:
        backbone: the backbone's file.
        adapter: the adapter.
        form: what is asked for.
        written: what the sites have then, where it is another one.

    Returns:
        The model with calls.
    """
    plain, called = backbone.with_name("plain.onnx"), backbone.with_name("called.onnx")
    graft(backbone, adapter, plain, form=Form.PLAIN)
    report = graft(backbone, adapter, called, form=form)
    assert set(report.forms.values()) == {written or form}
    model = onnx.load(called)
    feed = {value.name: np.array([True]) for value in model.graph.input} | {"input_ids": TOKENS}
    expected = by_onnxruntime(plain, feed)
    for one in (by_onnxruntime(called, feed), by_reference(model, feed), by_session(called, feed)):
        assert one.dtype == expected.dtype
        numbers = Numbers.of(ir.DataType.from_numpy(expected.dtype))
        assert agreement({"logits": expected}, {"logits": one}, numbers).ok
    verified = verify(called, adapter)
    assert verified.ok, verified.as_text()
    assert extract(called) == adapter_bytes(adapter)
    return model


@pytest.mark.spec("ONX-36")
@pytest.mark.parametrize("opset", [14, 17, 20])
@pytest.mark.parametrize("activation", Activation)
def test_every_activation(tmp_path: Path, activation: Activation, opset: int) -> None:
    options = StackOptions(opset=opset, operator_norm=opset >= 17)
    model = assert_same_numbers(*built(tmp_path, options, activation=activation))
    (function,) = model.functions
    assert (function.domain, function.name) == (DOMAIN, f"Delta_{activation.value}_bd_bu_FLOAT")
    assert not any(node.op_type == "Gelu" for node in function.node)
    assert sum(node.domain == DOMAIN for node in model.graph.node) == 2


@pytest.mark.spec("ONX-36")
@pytest.mark.parametrize("norm_style", NormStyle)
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
def test_every_placement(tmp_path: Path, preset: str, norm_style: NormStyle) -> None:
    assert_same_numbers(*built(tmp_path, StackOptions(norm_style=norm_style), preset=preset))


@pytest.mark.spec("ONX-36")
@pytest.mark.parametrize("bias_down", [True, False])
@pytest.mark.parametrize("bias_up", [True, False])
def test_every_signature(tmp_path: Path, bias_down: bool, bias_up: bool) -> None:
    model = assert_same_numbers(*built(tmp_path, bias_down=bias_down, bias_up=bias_up))
    assert len(model.functions[0].input) == 3 + bias_down + bias_up


@pytest.mark.spec("ONX-36")
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types(tmp_path: Path, dtype: type) -> None:
    assert_same_numbers(*built(tmp_path, StackOptions(dtype=dtype), activation=Activation.RELU))


@pytest.mark.spec("ONX-36", "ONX-25")
@pytest.mark.parametrize("depth", [1, 2])
def test_calls_in_branches(tmp_path: Path, depth: int) -> None:
    backbone, adapter = built(tmp_path)
    onnx.save(in_branches(onnx.load(backbone), depth=depth), backbone)
    model = assert_same_numbers(backbone, without_head(adapter))
    assert len(model.functions) == 1


@pytest.mark.spec("ONX-36", "ONX-21")
def test_a_changed_function_or_tensor_is_noticed(tmp_path: Path) -> None:
    backbone, adapter = built(tmp_path)
    merged = tmp_path / "merged.onnx"
    graft(backbone, adapter, merged, form=Form.FUNCTION)
    model = onnx.load(merged)
    erf = next(node for node in model.functions[0].node if node.op_type == "Erf")
    erf.op_type = "Tanh"
    onnx.save(model, merged)
    assert not verify(merged, adapter).ok
    graft(backbone, adapter, merged, form=Form.FUNCTION)
    model = onnx.load(merged)
    tensor = next(one for one in model.graph.initializer if one.name.endswith("encoder.1.ffn/up.bias"))
    tensor.CopyFrom(onnx.numpy_helper.from_array(1 + onnx.numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, merged)
    report = verify(merged, adapter)
    assert [name for name, check in report.sites.items() if not check.ok] == ["encoder.1.ffn"]
    with pytest.raises(CompacterError) as caught:
        extract(merged)
    assert caught.value.code is ErrorCode.E603


def test_the_command_has_the_form(tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    backbone, adapter = built(tmp_path / "built")
    file, merged = tmp_path / "adapter.safetensors", tmp_path / "merged.onnx"
    file.write_bytes(adapter_bytes(adapter))
    assert main(["graft", str(backbone), str(file), "-o", str(merged), "--form", "function", "--json"]) == 0
    assert main(["verify", str(merged), "--adapter", str(file)]) == 0


@pytest.mark.parametrize("weights", Weights)
@pytest.mark.parametrize("kind", Kind)
def test_values_of_functions_have_the_types_that_they_are_said_to_have(kind: Kind, weights: Weights) -> None:
    """Runtimes compare them once a function is in the place of its calls."""
    signature = Signature(kind, Activation.GELU_NEW, True, True, ir.DataType.FLOAT, weights=weights, has_b=True)
    said = {str(value.name): value.dtype for node in signature.function(17) for value in node.outputs}
    model = onnx.inliner.inline_local_functions(onnx.load_from_string(model_of(signature)))
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
    found = {value.name.rpartition("__")[0]: value.type.tensor_type.elem_type for value in inferred}
    assert found.keys() | {"delta/sum", "delta/norm", "delta/up/bias"} >= said.keys()
    assert {name: said[name] for name in found} == found
