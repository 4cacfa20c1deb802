"""The tensors of all sites as a few inputs of a swappable graph: norms that are open or not, sites that differ."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from compacter_core.adapter import Adapter
from compacter_core.config import Override, Projection, Site, SiteModules
from compacter_core.layout import adapter_layout
from compacter_core.linkage.description import read_description
from compacter_core.linkage.swappable import swappable_shapes, swappable_tensors
from compacter_core.vocabulary import OverrideKind
from compacter_exporters.forms import Form
from compacter_exporters.functions import DOMAIN
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.verify import verify
from tests.exporters.stacks import BackboneStack, StackOptions, make_adapter, site_id
from tests.exporters.test_swappable_sublayer import agrees, calls, logits

STACKED = ["down.left", "down.mixing", "down.bias", "up.mixing", "up.right", "up.bias"]
NORMS = ("embeddings.norm", *(f"layer.{index}.norm" for index in range(3)))


def overrides(*norms: str) -> tuple[Override, ...]:
    return tuple(
        Override(name=f"{norm}.{part}", kind=OverrideKind.NORM) for norm in norms for part in ("weight", "bias")
    )


def made(folder: Path, *norms: str, read_sum: int | None = None) -> tuple[Path, BackboneStack, Adapter]:
    """A backbone of three sublayers whose norms all differ, and an adapter that replaces some of them.

    Args:
        folder: for the backbone.
        norms: those that it replaces.
        read_sum: the sublayer whose residual sum is an output of the graph, too: a call cannot have its norm.
    """
    stack = BackboneStack(StackOptions(sublayers=3), hidden=8, seed=0)
    model, generator = stack.model(), np.random.default_rng(7)
    for tensor in model.graph.initializer:
        if ".norm." in tensor.name:
            values = 1 + generator.standard_normal(8) / 4
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    if read_sum is not None:
        norm = [node for node in model.graph.node if node.op_type == "LayerNormalization"][read_sum + 1]
        shape = ("batch", "sequence", 8)
        model.graph.output.append(onnx.helper.make_tensor_value_info(norm.input[0], onnx.TensorProto.FLOAT, shape))
    onnx.save(model, folder / "backbone.onnx")
    projection = Projection.compacter(phm_dim=2)
    adapter = make_adapter(stack, projection=projection, bottleneck=4, overrides=overrides(*norms))
    return folder / "backbone.onnx", stack, adapter


def resized(adapter: Adapter, sizes: dict[int, int]) -> Adapter:
    """An adapter with other bottlenecks, by sublayer, and without the sublayers that are not named."""
    config = replace(adapter.config, sites=tuple(Site(id=site_id(i), bottleneck_size=k) for i, k in sizes.items()))
    generator = np.random.default_rng(11)
    shapes = adapter_layout(config).items()
    own = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes}
    kept = {name: array for name, array in adapter.tensors.items() if name.startswith(("override.", "head."))}
    return replace(adapter, config=config, tensors=own | kept)


def inputs_of(path: Path) -> dict[str, list[int | str]]:
    """The inputs for adapters, without what their names begin with, and their dimensions."""
    return {
        value.name.removeprefix("compacter/"): [
            dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim
        ]
        for value in onnx.load(path).graph.input
        if value.name.startswith("compacter/")
    }


def assert_same_numbers(folder: Path, backbone: Path, template: Adapter, *adapters: Adapter) -> Path:
    """Open a backbone with calls, and compare it with itself, with the graph without calls, and with the reference."""
    path, plain = folder / "open.onnx", folder / "plain.onnx"
    graft_swappable(backbone, template, plain)
    graft_swappable(backbone, template, path, form=Form.SUBLAYER)
    assert len(calls(path)) == len(template.config.sites)
    description = read_description({one.key: one.value for one in onnx.load(path).metadata_props})
    for kernel in (False, True):
        assert np.array_equal(logits(path, kernel=kernel), logits(backbone))
        for adapter in adapters:
            assert agrees(logits(path, adapter, kernel=kernel), logits(plain, adapter))
    for adapter in adapters:
        report = verify(path, adapter)
        assert report.ok, report.as_text()
        tensors = swappable_tensors(description, adapter)
        assert {name: array.shape for name, array in tensors.items()} == swappable_shapes(description, adapter)
        assert list(tensors) == list(swappable_shapes(description, adapter))
    return path


@pytest.mark.spec("LNK-2", "LNK-22")
def test_open_norms_are_given_together(tmp_path: Path) -> None:
    backbone, _, adapter = made(tmp_path, *NORMS)
    inputs = inputs_of(assert_same_numbers(tmp_path, backbone, adapter, adapter))
    outside = ["override/embeddings.norm.weight", "override/embeddings.norm.bias"]
    head = ["head/classifier.weight", "head/classifier.bias"]
    stacked = [f"sites/{name}" for name in [*STACKED, "norm.weight", "norm.bias"]]
    assert sorted(inputs) == sorted([*stacked, *outside, *head])
    assert inputs["sites/norm.weight"] == inputs["sites/up.bias"] == [3, 8]
    assert inputs["sites/down.mixing"] == [3, "sites.n", "sites.w", "sites.k"]


@pytest.mark.spec("LNK-2", "LNK-22")
@pytest.mark.parametrize("open_norms", [(), NORMS[:1], NORMS[:2], NORMS[:3]])
def test_calls_have_norms_that_are_all_open_or_all_closed(tmp_path: Path, open_norms: tuple[str, ...]) -> None:
    """The first norm is behind no site."""
    backbone, _, adapter = made(tmp_path, *open_norms)
    path = assert_same_numbers(tmp_path, backbone, adapter, adapter)
    kind = "Norm" if len(open_norms) < 2 else "Residual"
    assert {call.partition("_")[0] for call in calls(path)} == {kind}
    replaced = [name for name in inputs_of(path) if name.startswith("override/")]
    assert replaced == [f"override/{override.name}" for override in adapter.config.overrides]


@pytest.mark.spec("LNK-2", "LNK-22")
@pytest.mark.parametrize("read_sum", [0, 2])
def test_a_norm_that_a_call_cannot_have_reads_its_row(tmp_path: Path, read_sum: int) -> None:
    backbone, _, adapter = made(tmp_path, *NORMS, read_sum=read_sum)
    path = assert_same_numbers(tmp_path, backbone, adapter, adapter)
    assert [call.startswith("Residual") for call in calls(path)] == [index == read_sum for index in range(3)]
    model = onnx.load(path)
    (norm,) = (one for one in model.graph.node if one.op_type == "LayerNormalization" and "sites" in one.input[1])
    assert [name.rpartition("/")[0] for name in norm.input[1:]] == [
        f"compacter/sites/norm.{part}/{read_sum}" for part in ("weight", "bias")
    ]


@pytest.mark.spec("LNK-1", "LNK-22")
@pytest.mark.parametrize("sizes", [{0: 2, 1: 6, 2: 4}, {1: 4}, {0: 8, 2: 2}])
@pytest.mark.parametrize("names", [NORMS, ()])
def test_sites_may_differ_in_size_or_have_no_adapter(
    tmp_path: Path, sizes: dict[int, int], names: tuple[str, ...]
) -> None:
    backbone, _, template = made(tmp_path, *names)
    assert_same_numbers(tmp_path, backbone, template, resized(template, sizes))


@pytest.mark.spec("LNK-1", "LNK-22")
def test_norms_that_an_adapter_lacks_are_the_backbones(tmp_path: Path) -> None:
    backbone, stack, template = made(tmp_path, *NORMS)
    fewer = make_adapter(
        stack, projection=Projection.compacter(phm_dim=2), bottleneck=4, overrides=overrides(NORMS[2]), seed=3
    )
    path = assert_same_numbers(tmp_path, backbone, template, fewer)
    tensors = swappable_tensors(read_description({one.key: one.value for one in onnx.load(path).metadata_props}), fewer)
    default = next(one for one in onnx.load(path).graph.initializer if one.name == "compacter/sites/norm.weight")
    rows = np.any(tensors[default.name] != onnx.numpy_helper.to_array(default), axis=1)
    assert rows.tolist() == [False, True, False]


def test_calls_are_the_functions_of_their_name(tmp_path: Path) -> None:
    """One function serves all sites: what tells calls apart is an attribute."""
    backbone, _, adapter = made(tmp_path, *NORMS)
    graft_swappable(backbone, adapter, tmp_path / "open.onnx", form=Form.SUBLAYER)
    model = onnx.load(tmp_path / "open.onnx")
    assert len(model.functions) == 1
    nodes = [node for node in model.graph.node if node.domain == DOMAIN]
    assert [one.i for node in nodes for one in node.attribute if one.name == "site"] == [0, 1, 2]


@pytest.mark.spec("LNK-22")
def test_norms_are_together_only_where_each_site_names_one(tmp_path: Path) -> None:
    backbone, _, template = made(tmp_path, *NORMS)
    described = template.config.backbone
    assert described is not None
    modules = {**described.modules, site_id(1): SiteModules(linear="layer.1")}
    config = replace(template.config, backbone=replace(described, modules=modules))
    unnamed = replace(template, config=config)
    path = assert_same_numbers(tmp_path, backbone, unnamed, unnamed)
    assert {call.partition("_")[0] for call in calls(path)} == {"Residual"}
    assert "override/layer.1.norm.weight" in inputs_of(path)
