"""Grafts into quantised backbones: the sites are found, the adapter stays exact, a stale backbone is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compacter_core.adapter import Adapter, Array
from compacter_core.config import ATTACH_PRESETS
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import ROUNDING, sketch_indices, weight_name
from compacter_exporters.fused.apart import take_apart
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.linears import Linear, find_linears
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.verify import AGREEMENT, verify
from tests.exporters.conftest import Exported
from tests.exporters.optimised import How, optimise
from tests.exporters.quantising import Bits4, Int8, bits4, int8, static
from tests.exporters.test_exports import run, trained
from tests.exporters.test_fused import kept, own
from tests.exporters.test_pre_norm import export, tiny
from tests.exporters.test_pre_norm import run as run_pre_norm
from tests.exporters.test_pre_norm import trained as trained_pre_norm
from tests.support.models import tiny_inputs

INT8 = (Int8(), Int8(per_channel=True, unsigned=True), Int8(per_channel=True, reduce_range=True))
_BIAS = 5
BITS4 = (Bits4(symmetric=False, accuracy_level=4), Bits4(), Bits4(block=32, symmetric=False))
TYPES = {
    "int8": Int8(),
    "uint8": Int8(unsigned=True),
    "columns": Int8(per_channel=True),
    "reduced": Int8(reduce_range=True),
}


@st.composite
def products(draw: st.DrawFn) -> tuple[Array, Array]:
    """A weight [in, out] and x [3, in]."""
    n_in, n_out = draw(st.integers(1, 70)), draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = generator.standard_normal((n_in, n_out)) * draw(st.sampled_from([1e-3, 1.0, 30.0]))
    return weight.astype(np.float32), generator.standard_normal((3, n_in)).astype(np.float32)


def product_graph(weight: Array, path: Path) -> Path:
    """The product y = x W."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", weight.shape[1]])],
        [numpy_helper.from_array(weight, "W")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def only_linear(path: Path) -> Linear:
    model = load_graph(path)
    take_apart(model)
    (linear,) = find_linears(model.graph)
    assert linear.quantised is not None
    return linear


def steps(linear: Linear) -> Array:
    """How far quantising may have moved each entry."""
    assert linear.quantised is not None
    rows, columns = np.indices(linear.weight.shape)
    return linear.quantised.codes.entries(rows, columns)[1]


@pytest.mark.spec("ONX-31", "ONX-32")
@given(product=products(), block=st.sampled_from([16, 32]), symmetric=st.booleans())
@settings(max_examples=25, deadline=None)
def test_four_bits_are_read_as_the_runtime_reads_them(
    tmp_path_factory: pytest.TempPathFactory, product: tuple[Array, Array], block: int, symmetric: bool
) -> None:
    """The runtime multiplies the identity; nothing is rounded but W itself. Each entry is within its step of W."""
    weight, _ = product
    folder = tmp_path_factory.mktemp("bits")
    path = bits4(
        product_graph(weight, folder / "float.onnx"), folder / "bits.onnx", Bits4(block=block, symmetric=symmetric)
    )
    linear = only_linear(path)
    identity = np.eye(weight.shape[0], dtype=np.float32)
    got = onnxruntime.InferenceSession(str(path)).run(["y"], {"x": identity})[0]
    assert np.abs(got - linear.values()).max() <= 2.0**-22 * np.abs(weight).max()
    assert np.all(np.abs(linear.values() - weight) <= steps(linear) + ROUNDING * np.abs(weight))


@pytest.mark.spec("ONX-31", "ONX-32")
@pytest.mark.parametrize("kind", TYPES)
@given(product=products())
@settings(max_examples=8, deadline=None)
def test_eight_bits_are_within_half_a_step(
    tmp_path_factory: pytest.TempPathFactory, kind: str, product: tuple[Array, Array]
) -> None:
    weight, _ = product
    folder = tmp_path_factory.mktemp("int8")
    path = int8(product_graph(weight, folder / "float.onnx"), folder / "int8.onnx", TYPES[kind])
    linear = only_linear(path)
    assert np.all(np.abs(linear.values() - weight) <= steps(linear) + ROUNDING * np.abs(weight))
    (scale,) = (numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer if one.name == "W_scale")
    np.testing.assert_allclose(steps(linear), np.broadcast_to(np.abs(scale) / 2, weight.shape), rtol=1e-6)
    # x = identity is quantised without an error: 0 and 1 are codes.
    got = onnxruntime.InferenceSession(str(path)).run(["y"], {"x": np.eye(weight.shape[0], dtype=np.float32)})[0]
    assert np.abs(got - linear.values()).max() <= 2.0**-20 * np.abs(weight).max()


def int8_backbone(exported: Exported, folder: Path, settings: Int8, how: str) -> Path:
    """A BERT in int8: as quantised, with what ONNX Runtime fuses then, or fused before."""
    source = exported("bert", "torchscript17")
    if how == "fused before":
        source = optimise(source, How.TRANSFORMERS, folder / "fused.onnx")
    path = int8(source, folder / "int8.onnx", settings)
    return optimise(path, How.EXTENDED, folder / "int8-fused.onnx") if how == "fused after" else path


@pytest.mark.spec("ONX-6", "ONX-31", "ONX-33", "ONX-34")
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
@pytest.mark.parametrize("how", ["as is", "fused before", "fused after"])
def test_dynamic_int8(exported: Exported, tmp_path: Path, how: str, preset: str) -> None:
    adapter, logits = trained("bert", preset=preset)
    backbone = int8_backbone(exported, tmp_path, INT8[len(preset) % len(INT8)], how)
    report = graft(backbone, adapter, tmp_path / "merged.onnx")
    assert min(report.correlations.values()) > 0.99
    checked = verify(tmp_path / "merged.onnx", adapter)
    assert checked.ok, checked.as_text()
    lost = {name: count - kept(tmp_path / "merged.onnx", backbone)[name] for name, count in own(backbone).items()}
    assert {name: count for name, count in lost.items() if count} == (
        {"DynamicQuantizeMatMul": 1} if how == "fused after" else {}
    ), "only the head is not quantised any more"
    # No bound is claimed for the whole: but the answers are the trained model's, not the backbone's.
    error, bare = (np.abs(run(path) - logits.numpy()).max() for path in (tmp_path / "merged.onnx", backbone))
    assert error < bare / 10


@pytest.mark.spec("ONX-6", "ONX-31", "ONX-34")
@pytest.mark.parametrize(
    ("how", "settings_"), list(zip(("as is", "fused after", "fused before"), BITS4, strict=True)), ids=str
)
def test_four_bits_against_the_same_weights_in_float(
    exported: Exported, tmp_path: Path, how: str, settings_: Bits4
) -> None:
    """Where activations are not quantised, the outputs are those of a graft into a float graph with the same W."""
    adapter, _ = trained("bert")
    source = exported("bert", "torchscript17")
    if how == "fused before":
        source = optimise(source, How.TRANSFORMERS, tmp_path / "fused.onnx")
    backbone = bits4(source, tmp_path / "bits.onnx", settings_)
    if how == "fused after":
        backbone = optimise(backbone, How.EXTENDED, tmp_path / "bits-fused.onnx")
    graft(backbone, adapter, tmp_path / "merged.onnx")
    checked = verify(tmp_path / "merged.onnx", adapter)
    assert checked.ok, checked.as_text()
    assert kept(tmp_path / "merged.onnx", backbone) == own(backbone)
    if settings_.accuracy_level == 0:
        dequantised, sketched = _dequantised(backbone, tmp_path / "float.onnx", adapter)
        graft(dequantised, sketched, tmp_path / "float-merged.onnx")
        got, expected = run(tmp_path / "merged.onnx"), run(tmp_path / "float-merged.onnx")
        assert np.abs(got - expected).max() <= AGREEMENT * np.abs(expected).max()


@pytest.mark.spec("ONX-6", "ONX-28", "ONX-31")
@pytest.mark.parametrize("preset", ["houlsby", "adapter_plus"])
def test_four_bits_in_a_fused_decoder(tmp_path: Path, preset: str) -> None:
    """SkipSimplifiedLayerNormalization and MatMulNBits together, as onnxruntime-genai's builder writes them."""
    model, inputs = tiny("llama")
    export(model, inputs, tmp_path / "exported.onnx")
    fused = optimise(tmp_path / "exported.onnx", How.TRANSFORMERS, tmp_path / "fused.onnx", model_type="gpt2")
    backbone = bits4(fused, tmp_path / "bits.onnx", Bits4())
    assert own(backbone)["MatMulNBits"] > 0
    assert own(backbone)["SkipSimplifiedLayerNormalization"] > 0
    adapter, _ = trained_pre_norm(model, inputs, preset)
    graft(backbone, adapter, tmp_path / "merged.onnx")
    checked = verify(tmp_path / "merged.onnx", adapter)
    assert checked.ok, checked.as_text()
    assert kept(tmp_path / "merged.onnx", backbone) == own(backbone)
    dequantised, sketched = _dequantised(backbone, tmp_path / "float.onnx", adapter)
    graft(dequantised, sketched, tmp_path / "float-merged.onnx")
    got, expected = (run_pre_norm(tmp_path / name, inputs) for name in ("merged.onnx", "float-merged.onnx"))
    assert np.abs(got - expected).max() <= AGREEMENT * np.abs(expected).max()


@pytest.mark.spec("LNK-1", "LNK-12", "ONX-31", "ONX-34")
@pytest.mark.parametrize("how", ["as is", "fused before"])
def test_open_int8_graphs(exported: Exported, tmp_path: Path, how: str) -> None:
    """Both runs of a check compute the same bits, so that no rounding moves a value by a step in one of them."""
    adapter, _ = trained("bert")
    backbone = int8_backbone(exported, tmp_path, Int8(per_channel=True), how)
    graft_swappable(backbone, adapter, tmp_path / "swappable.onnx")
    graft_bank(backbone, adapter, tmp_path / "bank.onnx")
    for linkage in ("swappable", "bank"):
        report = verify(tmp_path / f"{linkage}.onnx", adapter)
        assert report.ok, report.as_text()
        assert report.agreement.error == 0, linkage


@pytest.mark.spec("ONX-32")
@pytest.mark.parametrize("how", ["int8", "bits"])
def test_a_backbone_that_trained_on_is_refused(exported: Exported, tmp_path: Path, how: str) -> None:
    """One sketched entry, off by more than quantising can have moved it, while the correlation is as high as ever."""
    adapter, _ = trained("bert")
    source = exported("bert", "torchscript17")
    if how == "int8":
        backbone = int8(source, tmp_path / "backbone.onnx", Int8(per_channel=True))
    else:
        backbone = bits4(source, tmp_path / "backbone.onnx", Bits4())
    site = adapter.config.sites[1].id
    linear = _linear_of(backbone, adapter, site)
    moved = steps(linear).reshape(-1)[sketch_indices(linear.weight.shape)[3]]
    sketch = adapter.sketches[weight_name(site)]
    graft(backbone, adapter, tmp_path / "merged.onnx")
    stale = sketch.copy()
    dequantised = linear.sketch()[3]
    stale[3] = dequantised + 1.1 * moved + 2 * ROUNDING * np.abs(dequantised)
    with pytest.raises(CompacterError, match="changed since") as caught:
        graft(backbone, _with_sketch(adapter, site, stale), tmp_path / "stale.onnx")
    assert caught.value.code is ErrorCode.E403
    stale[3] = dequantised + 0.9 * moved
    graft(backbone, _with_sketch(adapter, site, stale), tmp_path / "near.onnx")


@pytest.mark.spec("ONX-6")
def test_another_backbone_is_refused(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    generator = np.random.default_rng(0)
    others = {name: generator.standard_normal(one.shape).astype(one.dtype) for name, one in adapter.sketches.items()}
    backbone = int8(exported("bert", "torchscript17"), tmp_path / "backbone.onnx", Int8())
    with pytest.raises(CompacterError) as caught:
        graft(backbone, _headless(replace(adapter, sketches=others)), tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E604


@pytest.mark.spec("ONX-35")
def test_static_quantisation_is_refused(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    inputs = {name: value.numpy() for name, value in tiny_inputs().items()}
    backbone = static(exported("bert", "torchscript17"), tmp_path / "backbone.onnx", inputs)
    with pytest.raises(CompacterError, match="before quantising") as caught:
        graft(backbone, adapter, tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E604
    assert not (tmp_path / "merged.onnx").exists()


@pytest.mark.spec("ONX-33")
def test_a_quantised_head_that_was_not_replaced_is_found(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    backbone = int8(exported("bert", "torchscript17"), tmp_path / "backbone.onnx", Int8())
    headless = _headless(adapter)
    graft(backbone, headless, tmp_path / "merged.onnx")
    assert verify(tmp_path / "merged.onnx", headless).ok
    report = verify(tmp_path / "merged.onnx", adapter)
    assert [check.problem for check in report.head.values()] == ["the weight is not the adapter's"]


def _headless(adapter: Adapter) -> Adapter:
    return replace(
        adapter,
        config=replace(adapter.config, head=None),
        tensors={name: array for name, array in adapter.tensors.items() if not name.startswith("head.")},
        sketches={name: array for name, array in adapter.sketches.items() if "pooler" not in name},
    )


def _linear_of(backbone: Path, adapter: Adapter, site: str) -> Linear:
    model = load_graph(backbone)
    take_apart(model)
    sketch = adapter.sketches[weight_name(site)]
    layers = [one for one in find_linears(model.graph) if one.sketch().shape == sketch.shape]
    return max(layers, key=lambda one: float(np.corrcoef(one.sketch(), sketch)[0, 1]))


def _with_sketch(adapter: Adapter, site: str, sketch: Array) -> Adapter:
    return replace(adapter, sketches={**adapter.sketches, weight_name(site): sketch.astype(np.float32)})


def _dequantised(backbone: Path, target: Path, adapter: Adapter) -> tuple[Path, Adapter]:
    """The graph with MatMul and Add instead of each MatMulNBits, and the adapter with sketches of these weights."""
    layers = {}
    model = load_graph(backbone)
    take_apart(model)
    for linear in find_linears(model.graph):
        if linear.quantised is not None:
            layers[str(linear.output.name)] = layers[str(linear.product.name)] = linear
    proto = onnx.load(backbone)
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        nodes += _in_float(node, layers, proto) if node.op_type == "MatMulNBits" else [node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, target)
    sketches = {**adapter.sketches}
    for site in adapter.config.sites:
        sketches[weight_name(site.id)] = _linear_of(backbone, adapter, site.id).sketch()
    return target, replace(adapter, sketches=sketches)


def _in_float(node: onnx.NodeProto, layers: dict[str, Linear], proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    name, bias = node.output[0], node.input[_BIAS] if len(node.input) > _BIAS else ""
    proto.graph.initializer.append(numpy_helper.from_array(layers[name].values(), f"{name}.W"))
    product = helper.make_node("MatMul", [node.input[0], f"{name}.W"], [f"{name}.m" if bias else name], name=name)
    return [product, helper.make_node("Add", [f"{name}.m", bias], [name])] if bias else [product]
