"""The form sublayer: the end of a sublayer as one call, with the numbers of the plain form in two runtimes."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from compacter_core.cli.main import main
from compacter_core.config import ATTACH_PRESETS
from compacter_core.format.writer import adapter_bytes
from compacter_core.vocabulary import Activation, Input, NormStyle, Skip
from compacter_exporters.forms import Form
from compacter_exporters.functions import DOMAIN
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.verify import verify
from tests.exporters import test_functions
from tests.exporters.branches import in_branches
from tests.exporters.conftest import Exported
from tests.exporters.quantising import Int8, int8
from tests.exporters.stacks import StackOptions
from tests.exporters.test_bias_first import as_gemms
from tests.exporters.test_branches import without_head
from tests.exporters.test_exports import trained
from tests.exporters.test_functions import built

assert_same_numbers = partial(test_functions.assert_same_numbers, form=Form.SUBLAYER)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.spec("ONX-54")
@pytest.mark.parametrize("activation", Activation)
def test_nothing_of_a_sublayer_is_left_behind_its_last_product(tmp_path: Path, activation: Activation) -> None:
    backbone, adapter = built(tmp_path, activation=activation)
    model = assert_same_numbers(backbone, adapter)
    (function,) = model.functions
    assert (function.domain, function.name) == (DOMAIN, f"Norm_{activation.value}_bd_bu_FLOAT")
    # Behind the first norm each sublayer has an activation, a product, and the call.
    assert operators(model) == [
        "Gather",
        "LayerNormalization",
        *2 * ["Relu", "MatMul", function.name],
        "Gather",
        "Gemm",
    ]


@pytest.mark.spec("ONX-54")
@pytest.mark.parametrize("norm_style", NormStyle)
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
def test_every_placement(tmp_path: Path, preset: str, norm_style: NormStyle) -> None:
    """Where the adapter does not both read and add to the sublayer's output, the call is delta alone."""
    attach = ATTACH_PRESETS[preset]
    is_whole = attach.input is Input.SUBLAYER_OUTPUT and attach.skip is Skip.SUBLAYER_OUTPUT
    backbone, adapter = built(tmp_path, StackOptions(norm_style=norm_style), preset=preset)
    model = assert_same_numbers(backbone, adapter, written=Form.SUBLAYER if is_whole else Form.FUNCTION)
    kind = "Delta" if not is_whole else "Norm" if norm_style is NormStyle.POST else "Residual"
    assert [function.name.partition("_")[0] for function in model.functions] == [kind]


@pytest.mark.spec("ONX-54")
@pytest.mark.parametrize("bias_down", [True, False])
@pytest.mark.parametrize("bias_up", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_every_signature(tmp_path: Path, bias_down: bool, bias_up: bool, with_bias: bool) -> None:
    """The linear layer's bias becomes one of both projections."""
    options = StackOptions(with_bias=with_bias)
    model = assert_same_numbers(*built(tmp_path, options, bias_down=bias_down, bias_up=bias_up))
    (function,) = model.functions
    assert len(function.input) == 6 + (bias_down or with_bias) + (bias_up or with_bias)


@pytest.mark.spec("ONX-54")
@pytest.mark.parametrize("opset", [14, 17, 20])
def test_a_norm_in_parts_is_in_the_call_where_the_opset_has_the_operator(tmp_path: Path, opset: int) -> None:
    model = assert_same_numbers(*built(tmp_path, StackOptions(opset=opset, operator_norm=False)))
    assert [function.name.partition("_")[0] for function in model.functions] == ["Norm" if opset >= 17 else "Residual"]
    assert operators(model).count("ReduceMean") == (2 if opset >= 17 else 6)


@pytest.mark.spec("ONX-54")
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types(tmp_path: Path, dtype: type) -> None:
    assert_same_numbers(*built(tmp_path, StackOptions(dtype=dtype), activation=Activation.RELU))


@pytest.mark.spec("ONX-54")
def test_a_norm_whose_sum_is_read_elsewhere_stays_outside(tmp_path: Path) -> None:
    backbone, adapter = built(tmp_path)
    model = onnx.load(backbone)
    total = [node for node in model.graph.node if node.op_type == "Add"][-1].output[0]
    model.graph.node.append(onnx.helper.make_node("Neg", [total], ["other"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("other", 1, ["batch", "sequence", 8]))
    onnx.save(model, backbone)
    merged = assert_same_numbers(backbone, adapter)
    assert sorted(function.name.partition("_")[0] for function in merged.functions) == ["Norm", "Residual"]


@pytest.mark.spec("ONX-54", "ONX-25")
@pytest.mark.parametrize("depth", [1, 2])
def test_calls_in_branches(tmp_path: Path, depth: int) -> None:
    backbone, adapter = built(tmp_path)
    onnx.save(in_branches(onnx.load(backbone), depth=depth), backbone)
    assert len(assert_same_numbers(backbone, without_head(adapter)).functions) == 1


@pytest.mark.spec("ONX-54")
def test_a_bias_within_a_product_stays_there(tmp_path: Path) -> None:
    backbone, adapter = built(tmp_path)
    backbone = as_gemms(backbone)
    assert operators(assert_same_numbers(backbone, adapter)).count("Gemm") == 3


@pytest.mark.spec("ONX-54")
def test_quantised_backbones(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    merged, backbone = tmp_path / "merged.onnx", tmp_path / "backbone.onnx"
    graft(int8(exported("bert", "dynamo"), backbone, Int8()), adapter, merged, form=Form.SUBLAYER)
    calls = [node.op_type for node in load_graph(merged).graph if node.domain == DOMAIN]
    assert calls == len(adapter.config.sites) * [calls[0]]
    assert calls[0].startswith("Norm_")
    verified = verify(merged, adapter)
    assert verified.ok, verified.as_text()


@pytest.mark.spec("ONX-54")
@pytest.mark.parametrize("form", [Form.SUBLAYER, Form.FUNCTION])
def test_products_that_are_brought_into_shape_behind_their_bias(tmp_path: Path, form: Form) -> None:
    """Quantised Gemms: the residual has the shape of h, not of m."""
    backbone, adapter = built(tmp_path)
    quantised, merged = int8(as_gemms(backbone), tmp_path / "int8.onnx", Int8()), tmp_path / "merged.onnx"
    graft(quantised, adapter, merged, form=form)
    verified = verify(merged, adapter)
    assert verified.ok, verified.as_text()


@pytest.mark.spec("ONX-54", "ONX-21")
@pytest.mark.parametrize("damage", ["body", "gain"])
def test_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    backbone, adapter = built(tmp_path)
    merged = tmp_path / "merged.onnx"
    graft(backbone, adapter, merged, form=Form.SUBLAYER)
    model = onnx.load(merged)
    call = next(node for node in model.graph.node if node.domain == DOMAIN)
    if damage == "body":
        next(node for node in model.functions[0].node if node.op_type == "Erf").op_type = "Tanh"
    else:
        call.input[-2] = call.input[-1]
    onnx.save(model, merged)
    assert not verify(merged, adapter).ok


def test_the_command_has_the_form(tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    backbone, adapter = built(tmp_path / "built")
    file, merged = tmp_path / "adapter.safetensors", tmp_path / "merged.onnx"
    file.write_bytes(adapter_bytes(adapter))
    assert main(["graft", str(backbone), str(file), "-o", str(merged), "--form", "sublayer", "--json"]) == 0
    assert main(["verify", str(merged), "--adapter", str(file)]) == 0
