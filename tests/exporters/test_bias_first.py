"""The form bias-first: the adapter's last bias is in the linear layer's, where sessions fuse that with the product."""

from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.verify import verify
from tests.exporters.conftest import Exported
from tests.exporters.optimised import How, optimise
from tests.exporters.quantising import Int8, int8
from tests.exporters.test_exports import trained
from tests.exporters.test_faults import backbone_file, make, make_stack

BIAS: Final = {"DynamicQuantizeMatMul": 4, "MatMulIntegerToFloat": 6}
"""Its position among a fused product's inputs."""


def with_bias(path: Path, target: Path) -> int:
    """Fused products that add a bias, when a session has loaded the graph."""
    nodes = load_graph(optimise(path, How.EXTENDED, target)).graph
    positions = [(node, BIAS[node.op_type]) for node in nodes if node.op_type in BIAS]
    return sum(len(node.inputs) > index and node.inputs[index] is not None for node, index in positions)


def as_gemms(path: Path) -> Path:
    """The products and biases of a stack as Gemms, each between two Reshapes."""
    model = onnx.load(path)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([-1, 8]), "rows"))
    for product in [node for node in graph.node if node.op_type == "MatMul"]:
        add = next(node for node in graph.node if product.output[0] in node.input)
        bias = next(name for name in add.input if name != product.output[0])
        name = product.name
        parts = [
            helper.make_node("Shape", [product.input[0]], [f"{name}/shape"]),
            helper.make_node("Reshape", [product.input[0], "rows"], [f"{name}/flat"]),
            helper.make_node("Gemm", [f"{name}/flat", product.input[1], bias], [f"{name}/gemm"]),
            helper.make_node("Reshape", [f"{name}/gemm", f"{name}/shape"], [add.output[0]]),
        ]
        nodes = list(graph.node)
        at = nodes.index(product)
        del graph.node[:]
        graph.node.extend([node for node in [*nodes[:at], *parts, *nodes[at:]] if node not in (product, add)])
    onnx.save(model, path)
    return path


@pytest.mark.spec("ONX-51")
def test_a_session_still_fuses_product_and_bias_in_int8(exported: Exported, tmp_path: Path) -> None:
    backbone = int8(exported("bert", "torchscript17"), tmp_path / "int8.onnx", Int8())
    adapter, _ = trained("bert")
    counts = {}
    for form in (Form.BIAS_FIRST, Form.BIAS_LAST):
        graft(backbone, adapter, tmp_path / f"{form}.onnx", form=form)
        report = verify(tmp_path / f"{form}.onnx", adapter)
        assert report.ok, report.as_text()
        counts[form] = with_bias(tmp_path / f"{form}.onnx", tmp_path / f"{form}-loaded.onnx")
    assert counts[Form.BIAS_FIRST] == counts[Form.BIAS_LAST] + len(adapter.config.sites)


@pytest.mark.spec("ONX-51")
def test_nothing_is_added_to_the_up_projection(exported: Exported, tmp_path: Path) -> None:
    backbone, (adapter, _) = exported("bert", "torchscript17"), trained("bert")
    report = graft(backbone, adapter, tmp_path / "merged.onnx", form=Form.BIAS_FIRST)
    found = verify(tmp_path / "merged.onnx", adapter).forms
    assert set(report.forms.values()) == set(found.values()) == {"bias-first"}
    constants = load_graph(tmp_path / "merged.onnx").graph.initializers
    readers = [constants[name].consumers() for name in constants if name.endswith("/up.bias")]
    assert len(readers) == len(adapter.config.sites)
    assert all(len(nodes) == 1 and not str(nodes[0].name).startswith("compacter/") for nodes in readers)


@pytest.mark.spec("ONX-51")
def test_a_gemm_adds_the_bias_itself(tmp_path: Path) -> None:
    adapter = make(make_stack())
    backbone = as_gemms(backbone_file(tmp_path))
    report = graft(backbone, adapter, tmp_path / "merged.onnx", form=Form.BIAS_FIRST)
    assert set(report.forms.values()) == {"bias-first"}
    verified = verify(tmp_path / "merged.onnx", adapter)
    assert verified.ok, verified.as_text()
    gemms = [node for node in load_graph(tmp_path / "merged.onnx").graph if node.op_type == "Gemm"]
    assert sum(str(node.inputs[2].name).endswith("/up.bias") for node in gemms if node.inputs[2] is not None) == 2


@pytest.mark.spec("ONX-51")
def test_placements_that_do_not_allow_it_are_refused(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert", preset="pfeiffer")
    with pytest.raises(CompacterError) as caught:
        graft(exported("bert", "torchscript17"), adapter, tmp_path / "merged.onnx", form=Form.BIAS_FIRST)
    assert caught.value.code is ErrorCode.E605
    assert list(tmp_path.iterdir()) == []
