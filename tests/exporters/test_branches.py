"""Grafts into the branches of a model: every branch gets the adapter, and `verify` looks at each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16

from compacter_core.adapter import Adapter, Array
from compacter_core.config import ATTACH_PRESETS, Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.graft import graft
from compacter_exporters.metadata import extract
from compacter_exporters.verify import verify
from tests.exporters.branches import in_branches
from tests.exporters.stacks import BackboneStack, StackOptions, make_adapter

TOKENS = np.array([[1, 2, 3], [4, 5, 6]])


def make(folder: Path, *, depth: int = 1, preset: str = "houlsby", condition: str = "flag") -> tuple[Path, Adapter]:
    """A backbone in branches without a head to replace, beside the same as one graph, and an adapter."""
    stack = BackboneStack(StackOptions(), hidden=8, seed=0)
    onnx.save(stack.model(), folder / "plain.onnx")
    made = make_adapter(stack, projection=Projection.compacter(phm_dim=2), bottleneck=4, attach=ATTACH_PRESETS[preset])
    adapter = without_head(made)
    onnx.save(in_branches(onnx.load(folder / "plain.onnx"), depth=depth, condition=condition), folder / "branches.onnx")
    return folder / "branches.onnx", adapter


def without_head(adapter: Adapter) -> Adapter:
    kept = {name: array for name, array in adapter.tensors.items() if not name.startswith("head.")}
    return replace(adapter, config=replace(adapter.config, head=None), tensors=kept)


def run(path: Path, **flags: bool) -> Array:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"input_ids": TOKENS} | {name: np.array([value]) for name, value in flags.items()}
    return np.asarray(session.run(None, feed)[0])


@pytest.mark.spec("ONX-23")
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
@pytest.mark.parametrize("depth", [1, 2])
def test_every_branch_gets_the_adapter(tmp_path: Path, depth: int, preset: str) -> None:
    backbone, adapter = make(tmp_path, depth=depth, preset=preset)
    graft(tmp_path / "plain.onnx", adapter, tmp_path / "expected.onnx")
    expected = run(tmp_path / "expected.onnx")
    report = graft(backbone, adapter, tmp_path / "merged.onnx")
    assert set(report.forms) == {site.id for site in adapter.config.sites}
    for first in (True, False):
        for second in (True, False):
            flags = {"flag0": first, "flag1": second} if depth > 1 else {"flag0": first}
            np.testing.assert_array_equal(run(tmp_path / "merged.onnx", **flags), expected)
    verified = verify(tmp_path / "merged.onnx", adapter)
    assert verified.ok, verified.as_text()
    assert len(verified.sites) == 2**depth * len(adapter.config.sites)


@pytest.mark.spec("ONX-13", "ONX-14", "ONX-25")
def test_branches_share_the_constants(tmp_path: Path) -> None:
    backbone, adapter = make(tmp_path)
    graft(backbone, adapter, tmp_path / "merged.onnx")
    graft(tmp_path / "plain.onnx", adapter, tmp_path / "expected.onnx")
    names = [
        sorted(one.name for one in onnx.load(tmp_path / name).graph.initializer if one.name.startswith("compacter/"))
        for name in ("merged.onnx", "expected.onnx")
    ]
    assert names[0] == names[1]
    assert extract(tmp_path / "merged.onnx") == extract(tmp_path / "expected.onnx")


def test_a_fault_in_one_branch_is_found_there(tmp_path: Path) -> None:
    backbone, adapter = make(tmp_path)
    graft(backbone, adapter, tmp_path / "merged.onnx")
    model = onnx.load(tmp_path / "merged.onnx")
    (branching,) = (node for node in model.graph.node if node.op_type == "If")
    (broken,) = (attribute.g for attribute in branching.attribute if attribute.name == "else_branch")
    (output,) = (node for node in broken.node if node.name == "compacter/tested/encoder.0.ffn/down")
    output.input[1] = "compacter/tested/encoder.1.ffn/down.weight"
    onnx.save(model, tmp_path / "broken.onnx")
    assert verify(tmp_path / "merged.onnx", adapter).ok
    failures = verify(tmp_path / "broken.onnx", adapter).failures()
    assert failures == ["site broken else_branch: encoder.0.ffn"]


def test_a_branch_that_no_input_decides_cannot_be_verified(tmp_path: Path) -> None:
    backbone, adapter = make(tmp_path, condition="computed")
    graft(backbone, adapter, tmp_path / "merged.onnx")
    with pytest.raises(CompacterError) as caught:
        verify(tmp_path / "merged.onnx", adapter)
    assert caught.value.code is ErrorCode.E604


@pytest.mark.spec("ONX-44")
def test_nodes_behind_the_branches_that_read_them_are_sorted(tmp_path: Path) -> None:
    backbone, adapter = make(tmp_path)
    model = onnx.load(backbone)
    (branching,) = (node for node in model.graph.node if node.op_type == "If")
    for attribute in branching.attribute:
        for node in attribute.g.node:
            node.input[:] = ["tokens" if name == "input_ids" else name for name in node.input]
    model.graph.node.append(onnx.helper.make_node("Identity", ["input_ids"], ["tokens"]))
    onnx.save(model, tmp_path / "unsorted.onnx")
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
    for source, target in ((backbone, "expected.onnx"), (tmp_path / "unsorted.onnx", "merged.onnx")):
        graft(source, adapter, tmp_path / target)
    for flag in (True, False):
        np.testing.assert_array_equal(
            run(tmp_path / "merged.onnx", flag0=flag), run(tmp_path / "expected.onnx", flag0=flag)
        )


@pytest.mark.spec("ONX-44")
def test_a_branch_that_a_converter_broke_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime's converter to fp16, where branches put out values of the same names as the model."""
    backbone, adapter = make(tmp_path)
    model = onnx.load(backbone)
    (branching,) = (node for node in model.graph.node if node.op_type == "If")
    for attribute in branching.attribute:
        old, new = attribute.g.output[0].name, model.graph.output[0].name
        attribute.g.output[0].name = new
        for node in attribute.g.node:
            node.output[:] = [new if name == old else name for name in node.output]
    onnx.save(model, tmp_path / "same-names.onnx")
    graft(tmp_path / "same-names.onnx", adapter, tmp_path / "merged.onnx")
    onnx.save(convert_float_to_float16(model, keep_io_types=True), tmp_path / "broken.onnx")
    with pytest.raises(Exception, match="Subgraph output"):
        onnxruntime.InferenceSession(str(tmp_path / "broken.onnx"))
    with pytest.raises(CompacterError, match="nothing in it computes") as caught:
        graft(tmp_path / "broken.onnx", adapter, tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E005
