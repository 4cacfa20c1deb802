"""Swappable graphs: without an adapter the backbone bit for bit, with one what the reference computes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.transformers.float16 import convert_float_to_float16

from compacter_core.adapter import Adapter, Array
from compacter_core.config import ATTACH_PRESETS, Attach, Head, Override, Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.linkage.description import read_description
from compacter_core.linkage.kinds import Linkage
from compacter_core.linkage.swappable import swappable_tensors
from compacter_core.vocabulary import Activation, Input, NormStyle, OverrideKind, ProjectionKind, ScalingKind, Skip
from compacter_exporters.graph import load_graph
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.verify import AGREEMENT, verify
from tests.exporters.stacks import LABELS, ROWS, BackboneStack, StackOptions, make_adapter, site_id
from tests.support.strategies import projections

COMPACTER = Projection.compacter(phm_dim=2)
INPUTS = {"input_ids": np.random.default_rng(5).integers(0, ROWS, (3, 7))}


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def logits(path: Path, adapter: Adapter | None = None) -> Array:
    """The model's logits, with the adapter's tensors fed as inputs."""
    loaded = session(path)
    tensors = {}
    if adapter is not None:
        tensors = swappable_tensors(read_description(loaded.get_modelmeta().custom_metadata_map), adapter)
    return np.asarray(loaded.run(["logits"], INPUTS | tensors)[0])


def opened(folder: Path, stack: BackboneStack, template: Adapter) -> Path:
    backbone = stack.save(folder / "backbone.onnx")
    graft_swappable(backbone, template, folder / "open.onnx")
    return folder / "open.onnx"


def assert_swaps(folder: Path, stack: BackboneStack, adapter: Adapter) -> None:
    """Without the adapter the backbone, bit for bit; with it every check of `verify` passes, and something changes."""
    path = opened(folder, stack, adapter)
    bare = logits(folder / "backbone.onnx")
    assert np.array_equal(logits(path), bare)
    report = verify(path, adapter)
    assert report.ok, report.as_text()
    assert set(report.sites) == {site.id for site in adapter.config.sites}
    assert report.norms
    assert report.head
    assert logits(path, adapter).shape != bare.shape


@pytest.mark.spec("LNK-1", "LNK-2", "LNK-4")
@pytest.mark.parametrize("norm_style", NormStyle)
@pytest.mark.parametrize("operator_norm", [True, False])
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
def test_every_placement(tmp_path: Path, preset: str, operator_norm: bool, norm_style: NormStyle) -> None:
    stack = BackboneStack(StackOptions(operator_norm=operator_norm, norm_style=norm_style), hidden=8, seed=0)
    stack.save(tmp_path / "backbone.onnx")
    adapter = make_adapter(stack, projection=COMPACTER, bottleneck=4, attach=ATTACH_PRESETS[preset])
    assert_swaps(tmp_path, BackboneStack(stack.options, hidden=8, seed=0), adapter)


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("opset", [14, 20])
def test_every_activation(tmp_path: Path, activation: Activation, opset: int) -> None:
    assert_swaps(tmp_path, *made(StackOptions(opset=opset, operator_norm=opset >= 17), non_linearity=activation))


@pytest.mark.parametrize(
    "spelling",
    [
        {"bias_first": True},
        {"transposed": True},
        {"merged": True},
        {"with_bias": False},
        {"drop_zero_head_bias": True},
        {"dtype": np.float64},
    ],
    ids="-".join,
)
def test_every_spelling(tmp_path: Path, spelling: dict[str, Any]) -> None:
    assert_swaps(tmp_path, *made(StackOptions(**spelling), non_linearity=Activation.RELU))


def made(options: StackOptions, **changes: Any) -> tuple[BackboneStack, Adapter]:
    """A stack that is not built yet, and an adapter for it."""
    stack = BackboneStack(options, hidden=8, seed=0)
    stack.model()
    adapter = make_adapter(stack, projection=COMPACTER, bottleneck=4, **changes)
    return BackboneStack(options, hidden=8, seed=0), adapter


@pytest.mark.spec("LNK-3")
@settings(max_examples=5)
@given(data=st.data())
@pytest.mark.parametrize("kind", ProjectionKind)
def test_every_projection(kind: ProjectionKind, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    projection = data.draw(projections(kind=kind))
    unit = projection.phm_dim or 1
    hidden = unit * data.draw(st.integers(-(-4 // unit), 6))
    stack = BackboneStack(StackOptions(), hidden=hidden, seed=data.draw(st.integers(0, 99)))
    stack.model()
    adapter = make_adapter(
        stack,
        projection=projection,
        bottleneck=unit * data.draw(st.integers(1, 4)),
        bias_down=data.draw(st.booleans()),
        bias_up=data.draw(st.booleans()),
        scaling=data.draw(st.sampled_from([1.0, -0.5, *ScalingKind])),
        scale=data.draw(st.sampled_from([2.0**-6, 0.5, 2.0])),
        seed=data.draw(st.integers(0, 99)),
    )
    folder = tmp_path_factory.mktemp("drawn")
    assert_swaps(folder, BackboneStack(StackOptions(), hidden=hidden, seed=stack.seed), adapter)


@pytest.mark.spec("LNK-1", "LNK-5")
def test_adapters_of_other_sizes_on_one_graph(tmp_path: Path) -> None:
    """Another projection, bottleneck, label count and set of sites than the template's, all on the same graph."""
    stack, template = made(StackOptions())
    path = opened(tmp_path, stack, template)
    head = template.config.head
    assert head is not None
    two = replace(head, shapes={"classifier.weight": (2, 8), "classifier.bias": (2,)}, labels=("x", "y"))
    other = make_adapter(stack, projection=Projection(kind=ProjectionKind.DENSE), bottleneck=7, overrides=(), seed=9)
    config = replace(other.config, head=two, sites=other.config.sites[1:])
    kept = {name: array for name, array in other.tensors.items() if f".{site_id(0)}." not in name}
    generator = np.random.default_rng(0)
    kept["head.classifier.weight"] = generator.standard_normal((2, 8)).astype(np.float32)
    kept["head.classifier.bias"] = generator.standard_normal(2).astype(np.float32)
    other = replace(other, config=config, tensors=kept)
    for adapter, labels in ((template, 5), (other, 2)):
        report = verify(path, adapter)
        assert report.ok, report.as_text()
        assert logits(path, adapter).shape == (3, labels)
    assert set(verify(path, other).sites) == {site_id(1)}


def test_no_value_is_named_the_shape_of_the_backbones_labels(tmp_path: Path) -> None:
    """Of what depends on the number of labels; runtimes reuse memory by shapes, where something follows the head."""
    stack, template = made(StackOptions())
    stack.save(tmp_path / "backbone.onnx")
    backbone = onnx.load(tmp_path / "backbone.onnx")
    onnx.save(convert_float_to_float16(backbone, keep_io_types=True), tmp_path / "half.onnx")
    graft_swappable(tmp_path / "half.onnx", template, tmp_path / "open.onnx")
    (chosen,) = (node for node in load_graph(tmp_path / "open.onnx").graph if node.op_type == "Slice")
    (cast,) = chosen.outputs[0].consumers()
    assert cast.op_type == "Cast"
    for value in (*chosen.outputs, *cast.outputs):
        assert value.shape is None or value.shape[-1] != LABELS
    assert logits(tmp_path / "open.onnx", template).shape == (3, 5)


def test_biases_of_the_backbone_are_replaced(tmp_path: Path) -> None:
    """Where the adapter reads m, the replaced bias is also in the bias of its down-projection.

    ONNX Runtime does not fuse an open bias, which is no constant: sums are rounded in another order then.
    """
    biases = tuple(Override(name=f"layer.{index}.bias", kind=OverrideKind.BIAS) for index in range(2))
    for preset in ATTACH_PRESETS.values():
        stack, adapter = made(StackOptions(), overrides=biases, attach=preset)
        path = opened(tmp_path, stack, adapter)
        bare = logits(tmp_path / "backbone.onnx")
        assert np.abs(logits(path) - bare).max() <= AGREEMENT * np.abs(bare).max()
        report = verify(path, adapter)
        assert report.ok, report.as_text()


def test_an_adapter_without_a_head_leaves_the_backbones(tmp_path: Path) -> None:
    stack, template = made(StackOptions())
    path = opened(tmp_path, stack, template)
    tensors = {name: array for name, array in template.tensors.items() if not name.startswith("head.")}
    headless = replace(template, config=replace(template.config, head=None), tensors=tensors)
    assert logits(path, headless).shape == (3, LABELS)
    assert verify(path, headless).ok


def _other_head(head: Head | None) -> Head:
    assert head is not None
    return replace(head, shapes={"classifier.weight": (5, 8)})


@pytest.mark.spec("LNK-5")
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"non_linearity": Activation.RELU}, ErrorCode.E605),
        ({"attach": ATTACH_PRESETS["parallel"]}, ErrorCode.E605),
        ({"scaling": ScalingKind.CHANNEL}, ErrorCode.E605),
        ({"overrides": (Override(name="layer.7.norm.weight", kind=OverrideKind.NORM),)}, ErrorCode.E404),
    ],
    ids=["activation", "placement", "scaling", "override"],
)
def test_adapters_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], code: ErrorCode) -> None:
    stack, template = made(StackOptions())
    path = opened(tmp_path, stack, template)
    adapter = replace(template, config=replace(template.config, **changes))
    with pytest.raises(CompacterError) as caught:
        logits(path, adapter)
    assert caught.value.code is code


@pytest.mark.spec("LNK-5")
def test_an_adapter_with_another_head_is_refused(tmp_path: Path) -> None:
    stack, template = made(StackOptions())
    path = opened(tmp_path, stack, template)
    adapter = replace(template, config=replace(template.config, head=_other_head(template.config.head)))
    with pytest.raises(CompacterError) as caught:
        logits(path, adapter)
    assert caught.value.code is ErrorCode.E604


@pytest.mark.spec("LNK-5")
def test_an_adapter_of_another_backbone_is_refused(tmp_path: Path) -> None:
    stack, template = made(StackOptions())
    path = opened(tmp_path, stack, template)
    other = BackboneStack(StackOptions(), hidden=8, seed=1)
    other.model()
    with pytest.raises(CompacterError) as caught:
        logits(path, make_adapter(other, projection=COMPACTER, bottleneck=4))
    assert caught.value.code is ErrorCode.E403


def test_a_placement_that_drops_the_norm_is_refused(tmp_path: Path) -> None:
    stack, template = made(StackOptions(), attach=Attach(input=Input.NORMED_SUM, skip=Skip.RESIDUAL_SUM, post=False))
    with pytest.raises(CompacterError, match="leaves out the norm") as caught:
        opened(tmp_path, stack, template)
    assert caught.value.code is ErrorCode.E605


def test_opening_twice_is_refused(tmp_path: Path) -> None:
    stack, template = made(StackOptions())
    path = opened(tmp_path, stack, template)
    with pytest.raises(CompacterError) as caught:
        graft_swappable(path, template, tmp_path / "again.onnx")
    assert caught.value.code is ErrorCode.E605


@pytest.mark.spec("LNK-7")
def test_inputs_of_the_graph(tmp_path: Path) -> None:
    stack, template = made(StackOptions())
    path = opened(tmp_path, stack, template)
    defaults = {
        str(value.name): value.const_value.numpy().shape
        for value in ir.load(path).graph.inputs
        if value.const_value is not None
    }
    sites = {"down.weight": (8, 0), "down.bias": (0,), "up.weight": (0, 8), "up.bias": (8,)}
    expected = {f"compacter/{site_id(i)}/{name}": shape for i in range(2) for name, shape in sites.items()}
    expected |= {f"compacter/override/{override.name}": (8,) for override in template.config.overrides}
    expected |= {"compacter/head/classifier.weight": (0, 8), "compacter/head/classifier.bias": (0,)}
    assert defaults == expected


@pytest.mark.spec("LNK-6")
@pytest.mark.parametrize("key", ["compacter.linkage", "compacter.dtype", "compacter.template", "compacter.backbone"])
def test_missing_metadata_is_refused(tmp_path: Path, key: str) -> None:
    stack, template = made(StackOptions())
    metadata = dict(session(opened(tmp_path, stack, template)).get_modelmeta().custom_metadata_map)
    read_description(metadata)
    del metadata[key]
    with pytest.raises(CompacterError) as caught:
        read_description(metadata)
    assert caught.value.code is ErrorCode.E601


@pytest.mark.spec("LNK-6")
def test_the_description_reads_back(tmp_path: Path) -> None:
    stack, template = made(StackOptions())
    path = opened(tmp_path, stack, template)
    description = read_description(session(path).get_modelmeta().custom_metadata_map)
    assert description.linkage is Linkage.SWAPPABLE
    assert description.template.sites == template.config.sites
    bias = description.bias(site_id(1))
    assert bias is not None
    assert np.array_equal(bias, stack.biases[1])
    assert read_description(description.as_metadata()).fingerprint == description.fingerprint
