"""Seeded faults: each is caught by verification or by an error, and at the right place."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from compacter_core.adapter import Adapter, Array, ProjectionParameters
from compacter_core.config import ATTACH_PRESETS, Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.linkage import dense
from compacter_core.reference.projection import fast_weight, rule
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.verify import verify
from tests.exporters.stacks import BackboneStack, StackOptions, make_adapter, site_id

Graph = ir.Graph
FIRST, SECOND = site_id(0), site_id(1)


def make_stack(seed: int = 0) -> BackboneStack:
    stack = BackboneStack(StackOptions(opset=20), hidden=8, seed=seed)
    stack.model()
    return stack


def make(stack: BackboneStack) -> Adapter:
    return make_adapter(stack, projection=Projection.compacter(phm_dim=2), bottleneck=4)


def backbone_file(folder: Path, seed: int = 0) -> Path:
    return BackboneStack(StackOptions(opset=20), hidden=8, seed=seed).save(folder / f"backbone{seed}.onnx")


def grafted(folder: Path, adapter: Adapter, form: Form = Form.FOLD) -> Path:
    graft(backbone_file(folder), adapter, folder / "merged.onnx", form=form)
    return folder / "merged.onnx"


def damage(path: Path, change: Callable[[Graph], None]) -> None:
    model = ir.load(path)
    change(model.graph)
    ir.save(model, path)


def constant(graph: Graph, site: str, name: str) -> ir.Value:
    return graph.initializers[f"compacter/tested/{site}/{name}"]


def set_values(value: ir.Value, values: Array) -> None:
    value.const_value = ir.Tensor(np.ascontiguousarray(values.astype(np.float32)), name=value.name)


def values_of(value: ir.Value) -> Array:
    if value.const_value is None:
        raise AssertionError("not a constant")
    return value.const_value.numpy()


def reader(value: ir.Value, op_type: str) -> ir.Node:
    return next(node for node in value.consumers() if node.op_type == op_type)


def failures(path: Path, adapter: Adapter) -> list[str]:
    return verify(path, adapter).failures()


@pytest.mark.spec("ONX-1", "ONX-2")
@pytest.mark.parametrize("form", [Form.BIAS_LAST, Form.BIAS_FIRST, Form.COLUMN, Form.FOLD, Form.PLAIN])
def test_an_undamaged_graph_passes(tmp_path: Path, form: Form) -> None:
    adapter = make(make_stack())
    assert failures(grafted(tmp_path, adapter, form), adapter) == []


@pytest.mark.spec("ONX-6")
def test_stale_backbone_is_refused(tmp_path: Path) -> None:
    adapter = make(make_stack(seed=1))
    with pytest.raises(CompacterError, match="no weight matches") as caught:
        graft(backbone_file(tmp_path), adapter, tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E604
    assert not (tmp_path / "merged.onnx").exists()


@pytest.mark.spec("ONX-8")
def test_stale_bias_is_refused(tmp_path: Path) -> None:
    adapter = make(make_stack())
    path = backbone_file(tmp_path)
    damage(path, lambda graph: set_values(graph.initializers["layer.1.bias"], np.arange(8.0)))
    with pytest.raises(CompacterError, match="another bias") as caught:
        graft(path, adapter, tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E403


@pytest.mark.spec("ONX-7")
def test_backbone_trained_further_is_refused(tmp_path: Path) -> None:
    stack = make_stack()
    path = backbone_file(tmp_path)
    tuned = stack.weights[1] * (1 + 0.02 * np.random.default_rng(0).standard_normal(stack.weights[1].shape))
    damage(path, lambda graph: set_values(graph.initializers["layer.1.weight"], tuned))
    with pytest.raises(CompacterError, match="has changed since") as caught:
        graft(path, make(stack), tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E403


def test_verifying_against_a_stale_backbone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompacterError, match="no weight matches") as caught:
        verify(grafted(tmp_path, make(make_stack())), make(make_stack(seed=1)))
    assert caught.value.code is ErrorCode.E604


@pytest.mark.spec("ONX-6")
def test_equal_weights_at_two_sites_are_refused(tmp_path: Path) -> None:
    stack = make_stack()
    adapter = make(stack)
    path = backbone_file(tmp_path)
    damage(path, lambda graph: set_values(graph.initializers["layer.1.weight"], stack.weights[0]))
    with pytest.raises(CompacterError, match="more than once") as caught:
        graft(path, adapter, tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E604


@pytest.mark.spec("ONX-9")
def test_sites_swapped_in_the_file_are_refused(tmp_path: Path) -> None:
    adapter = make(make_stack())
    other = {FIRST: SECOND, SECOND: FIRST}
    sketches = {
        name.replace(site, other[site]): array
        for name, array in adapter.sketches.items()
        for site in other
        if f".{site}." in name
    }
    with pytest.raises(CompacterError, match="another norm than expected") as caught:
        graft(backbone_file(tmp_path), replace(adapter, sketches=sketches), tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E604


def test_wrong_site_is_found(tmp_path: Path) -> None:
    adapter = make(make_stack())
    path = grafted(tmp_path, adapter)

    def swap(graph: Graph) -> None:
        for name in ("down.weight", "down.bias", "up.weight", "up.bias"):
            first, second = constant(graph, FIRST, name), constant(graph, SECOND, name)
            first.const_value, second.const_value = second.const_value, first.const_value

    damage(path, swap)
    assert {f"site {FIRST}", f"site {SECOND}"} <= set(failures(path, adapter))


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_norm_not_replaced_is_found(tmp_path: Path, part: str) -> None:
    adapter = make(make_stack())
    path = grafted(tmp_path, adapter)
    neutral = np.ones(8) if part == "weight" else np.zeros(8)
    for norm in ("embeddings.norm", "layer.0.norm", "layer.1.norm"):
        name = f"compacter/tested/override/{norm}.{part}"
        damage(path, lambda graph, name=name: set_values(graph.initializers[name], neutral))  # type: ignore[misc] # bound now
    norms = {"norm embeddings.norm", "norm layer.0.norm", "norm layer.1.norm"}
    assert set(failures(path, adapter)) == norms


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_head_not_replaced_is_found(tmp_path: Path, part: str) -> None:
    adapter = make(make_stack())
    path = grafted(tmp_path, adapter)

    def undo(graph: Graph) -> None:
        value = graph.initializers[f"compacter/tested/head/classifier.{part}"]
        set_values(value, values_of(value)[::-1])

    damage(path, undo)
    assert failures(path, adapter) == ["head classifier"]


def test_transposed_rule_is_found(tmp_path: Path) -> None:
    adapter = make(make_stack())
    tensors = {
        name: np.swapaxes(array, 1, 2) if name.endswith("phm_rule") else array
        for name, array in adapter.tensors.items()
    }
    path = grafted(tmp_path, replace(adapter, tensors=tensors))
    assert {f"site {FIRST}", f"site {SECOND}"} <= set(failures(path, adapter))


def test_swapped_kronecker_order_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(p: ProjectionParameters) -> Array:
        pairs = zip(rule(p), fast_weight(p), strict=True)
        return np.asarray(sum(np.kron(fast, slow) for slow, fast in pairs))

    adapter = make(make_stack())
    monkeypatch.setattr(dense, "weight", swapped)
    path = grafted(tmp_path, adapter)
    assert {f"site {FIRST}", f"site {SECOND}"} <= set(failures(path, adapter))


@pytest.mark.parametrize("form", [Form.BIAS_LAST, Form.BIAS_FIRST, Form.FOLD, Form.PLAIN])
@pytest.mark.parametrize("name", ["down.bias", "up.bias"])
def test_dropped_bias_is_found(tmp_path: Path, name: str, form: Form) -> None:
    adapter = make(make_stack())
    path = grafted(tmp_path, adapter, form)
    damage(
        path,
        lambda graph: set_values(
            constant(graph, SECOND, name), np.zeros_like(values_of(constant(graph, SECOND, name)))
        ),
    )
    assert failures(path, adapter) == [f"site {SECOND}"]


def test_bias_of_the_backbone_lost_in_folding_is_found(tmp_path: Path) -> None:
    stack = make_stack()
    adapter = make(stack)
    path = grafted(tmp_path, adapter)

    def lose(graph: Graph) -> None:
        up = constant(graph, FIRST, "up.bias")
        set_values(up, values_of(up) - stack.biases[0])

    damage(path, lose)
    assert failures(path, adapter) == [f"site {FIRST}"]


def test_gelu_instead_of_gelu_new_is_found(tmp_path: Path) -> None:
    adapter = make(make_stack())
    path = grafted(tmp_path, adapter)

    def change(graph: Graph) -> None:
        for node in graph:
            if node.op_type == "Gelu":
                node.attributes["approximate"] = ir.AttrString("approximate", "none")

    damage(path, change)
    assert {f"site {FIRST}", f"site {SECOND}"} <= set(failures(path, adapter))


def test_a_residual_sum_that_goes_past_the_adapter_is_found(tmp_path: Path) -> None:
    adapter = make(make_stack())
    path = grafted(tmp_path, adapter, Form.PLAIN)

    def bypass(graph: Graph) -> None:
        write = next(node for node in graph if node.name == f"compacter/tested/{FIRST}/output")
        write.outputs[0].replace_all_uses_with(write.inputs[0])  # type: ignore[arg-type] # an Add has two inputs

    damage(path, bypass)
    report = verify(path, adapter)
    assert f"site {FIRST}" in report.failures()
    assert "residual sum" in str(report.sites[FIRST].problem)


def test_a_dropped_residual_is_found(tmp_path: Path) -> None:
    adapter = make(make_stack())
    path = grafted(tmp_path, adapter, Form.PLAIN)

    def drop(graph: Graph) -> None:
        write = next(node for node in graph if node.name == f"compacter/tested/{FIRST}/output")
        write.replace_input_with(0, write.inputs[1])

    damage(path, drop)
    assert f"site {FIRST}" in failures(path, adapter)


def test_a_value_read_past_the_adapter_is_found(tmp_path: Path) -> None:
    """Pfeiffer's first norm feeds the adapter alone; the next sublayer must read the second one."""
    adapter = make(make_stack())
    adapter = replace(adapter, config=replace(adapter.config, attach=ATTACH_PRESETS["pfeiffer"]))
    path = grafted(tmp_path, adapter, Form.AUTO)
    assert failures(path, adapter) == []

    def undo(graph: Graph) -> None:
        norms = [node for node in graph if node.op_type == "LayerNormalization"]
        _, before, _, *_ = norms
        relus = [node for node in graph if node.op_type == "Relu"]
        relus[1].replace_input_with(0, before.outputs[0])

    damage(path, undo)
    assert "something else than the adapter" in str(verify(path, adapter).sites[FIRST].problem)


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    path = grafted(tmp_path, make(make_stack()))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CompacterError) as caught:
        verify(path, make(make_stack()))
    assert caught.value.code is ErrorCode.E005


def test_a_truncated_adapter_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    file.write_bytes(adapter_bytes(make(make_stack()))[:-1])
    with pytest.raises(CompacterError) as caught:
        graft(backbone_file(tmp_path), file, tmp_path / "merged.onnx")
    assert caught.value.code.name.startswith("E1")
