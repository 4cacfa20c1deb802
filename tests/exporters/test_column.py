"""The form column: the up-projection adds the biases, since its input has one column that is constant."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.reference.column import AT, activated
from compacter_core.vocabulary import Activation
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.metadata import extract
from compacter_exporters.verify import verify
from tests.exporters.conftest import Exported
from tests.exporters.quantising import Int8, int8
from tests.exporters.test_bias_first import as_gemms
from tests.exporters.test_exports import trained
from tests.exporters.test_faults import (
    FIRST,
    SECOND,
    Graph,
    backbone_file,
    constant,
    damage,
    failures,
    grafted,
    make,
    make_stack,
    reader,
    set_values,
    values_of,
)


def nodes_of(path: Path, op_type: str) -> int:
    return sum(node.op_type == op_type for node in load_graph(path).graph)


@pytest.mark.spec("ONX-53")
def test_one_pass_over_hidden_states_less_at_every_site(exported: Exported, tmp_path: Path) -> None:
    backbone, (adapter, _) = exported("bert", "dynamo"), trained("bert")
    sites = len(adapter.config.sites)
    report = graft(backbone, adapter, tmp_path / "merged.onnx", form=Form.COLUMN)
    found = verify(tmp_path / "merged.onnx", adapter)
    assert found.ok, found.as_text()
    assert set(report.forms.values()) == set(found.forms.values()) == {"column"}
    # Of the backbone's Adds the bias's is gone and the residual sum is a Sub; down's bias is an Add, o a Sub.
    assert nodes_of(tmp_path / "merged.onnx", "Add") == nodes_of(backbone, "Add") - sites
    assert nodes_of(tmp_path / "merged.onnx", "Sub") == nodes_of(backbone, "Sub") + 2 * sites
    assert not any(name.endswith("/up.bias") for name in load_graph(tmp_path / "merged.onnx").graph.initializers)
    assert extract(tmp_path / "merged.onnx")


@pytest.mark.spec("ONX-53")
@pytest.mark.parametrize("activation", Activation)
def test_the_column_is_where_the_specification_says(tmp_path: Path, activation: Activation) -> None:
    stack = make_stack()
    adapter = make(stack)
    config = replace(adapter.config, non_linearity=activation)
    path = grafted(tmp_path, replace(adapter, config=config), Form.COLUMN)
    graph = load_graph(path).graph
    k = adapter.config.site(FIRST).bottleneck_size
    down, bias, up = (values_of(constant(graph, FIRST, name)) for name in ("down.weight", "down.bias", "up.weight"))
    assert down.shape[1] == len(bias) == len(up) == k + 1
    assert np.all(down[:, k] == 0) and bias[k] == AT == 8
    bu = adapter.site(FIRST).up.b
    assert bu is not None
    expected = -(stack.biases[0].astype(np.float64) + bu) / activated(activation)
    np.testing.assert_allclose(up[k], expected, rtol=2**-22)


@pytest.mark.parametrize(("name", "where"), [("up.weight", (-1,)), ("down.bias", (-1,)), ("down.weight", (0, -1))])
def test_a_damaged_column_is_found(tmp_path: Path, name: str, where: tuple[int, ...]) -> None:
    adapter = make(make_stack())
    path = grafted(tmp_path, adapter, Form.COLUMN)

    def change(graph: Graph) -> None:
        value = constant(graph, SECOND, name)
        array = values_of(value).copy()
        array[where] += 1 / 64
        set_values(value, array)

    damage(path, change)
    assert failures(path, adapter) == [f"site {SECOND}"]


@pytest.mark.spec("ONX-51", "ONX-53")
def test_where_the_bias_is_within_the_product_the_form_is_bias_first(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    quantised = int8(exported("bert", "torchscript17"), tmp_path / "int8.onnx", Int8())
    report = graft(quantised, adapter, tmp_path / "merged-int8.onnx", form=Form.COLUMN)
    assert set(report.forms.values()) == {"bias-first"}
    stack = make(make_stack())
    report = graft(as_gemms(backbone_file(tmp_path)), stack, tmp_path / "merged-gemm.onnx", form=Form.COLUMN)
    assert set(report.forms.values()) == {"bias-first"}


@pytest.mark.spec("ONX-53")
def test_what_reads_the_shape_of_h_reads_that_of_m(tmp_path: Path) -> None:
    path, adapter = backbone_file(tmp_path), make(make_stack())

    def add_reader(graph: Graph) -> None:
        h = reader(graph.initializers["layer.0.bias"], "Add").outputs[0]
        node = ir.node("Shape", [h])
        asked = node.outputs[0]
        asked.name, asked.type, asked.shape = "shape_of_h", ir.TensorType(ir.DataType.INT64), ir.Shape([3])
        graph.append(node)
        graph.outputs.append(asked)

    damage(path, add_reader)
    graft(path, adapter, tmp_path / "merged.onnx", form=Form.COLUMN)
    report = verify(tmp_path / "merged.onnx", adapter)
    assert report.ok, report.as_text()
    assert set(report.forms.values()) == {"column"}


@pytest.mark.spec("ONX-53")
def test_placements_that_do_not_allow_it_are_refused(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert", preset="pfeiffer")
    with pytest.raises(CompacterError) as caught:
        graft(exported("bert", "torchscript17"), adapter, tmp_path / "merged.onnx", form=Form.COLUMN)
    assert caught.value.code is ErrorCode.E605
    assert list(tmp_path.iterdir()) == []
