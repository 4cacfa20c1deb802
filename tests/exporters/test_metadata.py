"""What a grafted model says about itself, and what extraction refuses."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from compacter_core.adapter import Adapter
from compacter_core.config import Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import config_to_json
from compacter_core.format.writer import adapter_bytes
from compacter_exporters import metadata
from compacter_exporters.emitter import tensor_digest
from compacter_exporters.graft import graft
from compacter_exporters.metadata import extract
from tests.exporters.stacks import BackboneStack, StackOptions, make_adapter, site_id


@pytest.fixture(name="merged")
def _merged(tmp_path: Path) -> tuple[Path, Adapter]:
    stack = BackboneStack(StackOptions(), hidden=8, seed=0)
    backbone = stack.save(tmp_path / "backbone.onnx")
    adapter = make_adapter(stack, projection=Projection.compacter(phm_dim=2), bottleneck=4)
    graft(backbone, adapter, tmp_path / "merged.onnx")
    return tmp_path / "merged.onnx", adapter


def change(path: Path, edit: Callable[[ir.Model], None]) -> None:
    model = ir.load(path)
    edit(model)
    ir.save(model, path)


def code_of_extract(path: Path) -> ErrorCode:
    with pytest.raises(CompacterError) as caught:
        extract(path)
    return caught.value.code


@pytest.mark.spec("ONX-15", "ONX-22")
def test_extract_gives_the_canonical_bytes(merged: tuple[Path, Adapter]) -> None:
    path, adapter = merged
    assert extract(path) == adapter_bytes(adapter)


@pytest.mark.spec("ONX-14", "ONX-15", "ONX-16", "ONX-17", "ONX-18")
def test_metadata_describes_the_graft(merged: tuple[Path, Adapter]) -> None:
    path, adapter = merged
    model = ir.load(path)
    props = model.metadata_props
    assert props["compacter.spec_version"] == "1.0"
    assert props["compacter.config"] == config_to_json(adapter.config)
    assert base64.b64decode(props["compacter.adapter"]) == adapter_bytes(adapter)
    sites = json.loads(props["compacter.sites"])
    assert list(sites) == [site_id(0), site_id(1)]
    values = {output.name for node in model.graph for output in node.outputs}
    for site in sites.values():
        assert site["form"] == "bias-last"
        assert {site["product"], site["output"]} <= values
        for name, digest in site["initialisers"].items():
            assert tensor_digest(ir_array(model, name)) == digest
    nodes = [node for node in model.graph if "compacter.site" in node.metadata_props]
    assert {node.metadata_props["compacter.site"] for node in nodes} == set(sites)
    assert all(str(node.name).startswith("compacter/tested/") for node in nodes)


def ir_array(model: ir.Model, name: str) -> np.ndarray:
    tensor = model.graph.initializers[name].const_value
    if tensor is None:
        raise AssertionError(name)
    return tensor.numpy()


@pytest.mark.spec("ONX-19")
def test_a_bare_backbone_has_no_adapter(merged: tuple[Path, Adapter]) -> None:
    assert code_of_extract(merged[0].with_name("backbone.onnx")) is ErrorCode.E601


@pytest.mark.spec("ONX-19")
@pytest.mark.parametrize("key", [metadata.ADAPTER, metadata.CONFIG, metadata.SITES, metadata.REPLACED])
def test_missing_metadata(merged: tuple[Path, Adapter], key: str) -> None:
    change(merged[0], lambda model: model.metadata_props.__delitem__(key))
    assert code_of_extract(merged[0]) is ErrorCode.E601


@pytest.mark.spec("ONX-19")
@pytest.mark.parametrize("key", [metadata.ADAPTER, metadata.SITES, metadata.REPLACED])
def test_damaged_metadata(merged: tuple[Path, Adapter], key: str) -> None:
    change(merged[0], lambda model: model.metadata_props.__setitem__(key, "[1"))
    assert code_of_extract(merged[0]) is ErrorCode.E601


@pytest.mark.spec("ONX-20")
@pytest.mark.parametrize("name", [f"{site_id(1)}/up.weight", "override/layer.0.norm.bias", "head/classifier.weight"])
def test_missing_tensor(merged: tuple[Path, Adapter], name: str) -> None:
    def rename(model: ir.Model) -> None:
        model.graph.initializers[f"compacter/tested/{name}"].name = "renamed"

    change(merged[0], rename)
    assert code_of_extract(merged[0]) is ErrorCode.E602


@pytest.mark.spec("ONX-21")
@pytest.mark.parametrize("name", [f"{site_id(1)}/up.weight", "override/layer.0.norm.bias", "head/classifier.weight"])
def test_changed_tensor(merged: tuple[Path, Adapter], name: str) -> None:
    def edit(model: ir.Model) -> None:
        value = model.graph.initializers[f"compacter/tested/{name}"]
        array = ir_array(model, str(value.name)).copy()
        array.flat[0] = np.nextafter(array.flat[0], np.float32(9))
        value.const_value = ir.Tensor(array, name=value.name)

    change(merged[0], edit)
    assert code_of_extract(merged[0]) is ErrorCode.E603


@pytest.mark.spec("ONX-22")
def test_a_damaged_embedded_adapter_is_refused(merged: tuple[Path, Adapter]) -> None:
    path, adapter = merged
    short = base64.b64encode(adapter_bytes(adapter)[:-8]).decode()
    change(path, lambda model: model.metadata_props.__setitem__(metadata.ADAPTER, short))
    assert code_of_extract(path).name.startswith("E1")


def test_grafting_twice_is_refused(merged: tuple[Path, Adapter]) -> None:
    path, adapter = merged
    with pytest.raises(CompacterError) as caught:
        graft(path, adapter, path.with_name("twice.onnx"))
    assert caught.value.code is ErrorCode.E605
