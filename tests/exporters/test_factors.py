"""Adapters in factors: the weights multiplied out, and the numbers of graphs whose calls take them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.adapter import Adapter, Array
from compacter_core.config import Projection
from compacter_core.linkage.dense import Dense
from compacter_core.linkage.description import read_description
from compacter_core.linkage.factors import Factors, factor_shapes
from compacter_core.linkage.swappable import swappable_shapes, swappable_tensors
from compacter_core.vocabulary import ProjectionKind, ScalingKind
from compacter_exporters.agreement import agreement
from compacter_exporters.checks import Numbers
from compacter_exporters.forms import Form
from compacter_exporters.functions import DOMAIN
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.verify import verify
from compacter_runtime import Session
from compacter_runtime.onnx_adapter import write_packed
from tests.exporters.stacks import BackboneStack, StackOptions, make_adapter
from tests.exporters.test_functions import TOKENS, assert_same_numbers
from tests.support.strategies import projections

PROJECTIONS = {
    "lphm": Projection.compacter(phm_dim=2),
    "lphm of another n": Projection.compacter(phm_dim=4, phm_rank=2),
    "low_rank": Projection(kind=ProjectionKind.LOW_RANK, phm_rank=2),
    "phm": Projection(kind=ProjectionKind.PHM, phm_dim=2),
    "dense": Projection(kind=ProjectionKind.DENSE),
}
HIDDEN, BOTTLENECK = 16, 8


def made(folder: Path, name: str = "lphm", **options: Any) -> tuple[Path, BackboneStack, Adapter]:
    stack = BackboneStack(StackOptions(), hidden=HIDDEN, seed=0)
    backbone = stack.save(folder / "backbone.onnx")
    return backbone, stack, make_adapter(stack, projection=PROJECTIONS[name], bottleneck=BOTTLENECK, **options)


def calls(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node if node.domain == DOMAIN]


@pytest.mark.spec("ONX-55", "FWD-8")
@given(data=st.data())
@pytest.mark.parametrize("kind", ProjectionKind)
def test_factors_are_the_weights(kind: ProjectionKind, data: st.DataObject) -> None:
    projection = data.draw(projections(kind=kind))
    n = projection.phm_dim or 1
    stack = BackboneStack(StackOptions(), hidden=n * data.draw(st.integers(1, 6)), seed=0)
    stack.model()
    adapter = make_adapter(
        stack,
        projection=projection,
        bottleneck=n * data.draw(st.integers(1, 4)),
        scaling=data.draw(st.sampled_from([1.0, -0.5, *ScalingKind])),
        seed=data.draw(st.integers(0, 99)),
    )
    for site in adapter.config.sites:
        parameters = adapter.site(site.id)
        factors, dense = Factors.of(parameters), Dense.of(parameters)
        for one, other, weight in (
            (factors.left, factors.mix_down, dense.Wd),
            (factors.mix_up, factors.right, dense.Wu),
        ):
            # Each way rounds fewer than 64 times, and no intermediate is larger than its factors' magnitudes.
            bound = 64 * 2.0**-53 * (np.abs(one) @ np.abs(other)).reshape(weight.shape)
            assert np.all(np.abs((one @ other).reshape(weight.shape) - weight) <= bound)
        shapes = factor_shapes(adapter.config, site.bottleneck_size)
        assert shapes == {name: getattr(factors, name).shape for name in shapes}


@pytest.mark.spec("ONX-36", "ONX-54", "ONX-55")
@pytest.mark.parametrize("form", [Form.SUBLAYER, Form.FUNCTION])
@pytest.mark.parametrize("name", PROJECTIONS)
def test_merged_calls_take_factors_where_these_are_fewer_products(tmp_path: Path, name: str, form: Form) -> None:
    backbone, _, adapter = made(tmp_path, name)
    model = assert_same_numbers(backbone, adapter, form=form)
    assert all("_factors_" in call for call in calls(model)) == (name in ("lphm", "low_rank"))


@pytest.mark.spec("ONX-54")
def test_a_session_multiplies_constant_factors_out_when_it_is_opened(tmp_path: Path) -> None:
    backbone, _, adapter = made(tmp_path)
    path = tmp_path / "optimised.onnx"
    model = assert_same_numbers(backbone, adapter, form=Form.SUBLAYER)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert not {"Flatten", "Transpose"} & {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.spec("LNK-7", "LNK-22")
@pytest.mark.parametrize("scaling", [0.5, ScalingKind.CHANNEL])
@pytest.mark.parametrize("name", PROJECTIONS)
def test_swappable_calls_take_adapters_of_all_kinds(tmp_path: Path, name: str, scaling: float | ScalingKind) -> None:
    """The template is a Compacter with n = 2."""
    backbone, stack, template = made(tmp_path, scaling=scaling)
    path, plain = tmp_path / "open.onnx", tmp_path / "plain.onnx"
    graft_swappable(backbone, template, plain)
    graft_swappable(backbone, template, path, form=Form.SUBLAYER)
    assert len(calls(onnx.load(path))) == len(template.config.sites)
    other = make_adapter(stack, projection=PROJECTIONS[name], bottleneck=BOTTLENECK, scaling=scaling, seed=3)
    report = verify(path, other)
    assert report.ok, report.as_text()
    session = Session(path)
    description = read_description(session._session.get_modelmeta().custom_metadata_map)
    tensors = swappable_tensors(description, other)
    assert {one: array.shape for one, array in tensors.items()} == swappable_shapes(description, other)
    write_packed(tmp_path / "one.onnx_adapter", description, other)
    expected = logits(Session(plain), other)
    for source in (other, tmp_path / "one.onnx_adapter"):
        got = logits(session, source)
        assert agreement({"logits": expected}, {"logits": got}, Numbers.of(ir.DataType.FLOAT)).ok


def logits(session: Session, adapter: Adapter | Path) -> Array:
    return session.run({"input_ids": TOKENS}, adapter=session.load_adapter(adapter))["logits"]
