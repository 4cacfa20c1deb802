"""Swappable graphs and banks in ONNX's reference evaluator: nothing in them needs a certain runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from compacter_core.adapter import Adapter, Array
from compacter_core.linkage.description import read_description
from compacter_core.linkage.kinds import Linkage
from compacter_core.linkage.swappable import swappable_tensors
from compacter_core.vocabulary import NormStyle
from compacter_exporters.agreement import agreement
from compacter_exporters.checks import Numbers
from compacter_exporters.forms import Form
from compacter_exporters.functions import DOMAIN
from compacter_exporters.linkage.open_set import opener_of
from compacter_exporters.linkage.opening import open_file
from compacter_runtime.bank import Bank
from tests.exporters.stacks import BackboneStack, StackOptions, make_adapter
from tests.exporters.test_factors import BOTTLENECK, HIDDEN, PROJECTIONS
from tests.exporters.test_swappable_sublayer import INPUTS


def fed(model: onnx.ModelProto, adapter: Adapter) -> dict[str, Array]:
    """What a run takes for the adapter: in a bank for the first row and the last, between them there is none."""
    description = read_description({entry.key: entry.value for entry in model.metadata_props})
    if description.linkage is Linkage.SWAPPABLE:
        return swappable_tensors(description, adapter)
    bank = Bank(description)
    own = bank.add(adapter)
    feeds = bank.choose([own, None, own], 3).feeds(np.arange(3))
    # The bank's memory goes with it.
    return {name: np.array(value if isinstance(value, np.ndarray) else value.numpy()) for name, value in feeds.items()}


@pytest.mark.parametrize("norm_style", NormStyle)
@pytest.mark.parametrize("form", [Form.AUTO, Form.SUBLAYER])
@pytest.mark.parametrize("linkage", [Linkage.SWAPPABLE, Linkage.BANK])
@pytest.mark.parametrize("name", PROJECTIONS)
def test_the_numbers_are_those_of_onnxruntime(
    tmp_path: Path, name: str, linkage: Linkage, form: Form, norm_style: NormStyle
) -> None:
    stack = BackboneStack(StackOptions(norm_style=norm_style), hidden=HIDDEN, seed=0)
    backbone = stack.save(tmp_path / "backbone.onnx")
    onnx.shape_inference.infer_shapes_path(backbone)
    adapter = make_adapter(stack, projection=PROJECTIONS[name], bottleneck=BOTTLENECK)
    opener = opener_of(linkage, sums_apart=False)
    plain, path = tmp_path / "plain.onnx", tmp_path / "open.onnx"
    open_file(backbone, adapter, plain, opener)
    open_file(backbone, adapter, path, opener, form=form)
    session = onnxruntime.InferenceSession(str(plain), providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(["logits"], INPUTS | fed(onnx.load(plain), adapter))[0])
    model = onnx.load(path)
    assert any(node.domain == DOMAIN for node in model.graph.node) == (form is Form.SUBLAYER)
    results: Any = ReferenceEvaluator(model).run(["logits"], INPUTS | fed(model, adapter))
    # A row without an adapter has fewer labels, and minus infinity for the others.
    compared, got = ({"logits": np.nan_to_num(logits, neginf=-1.0)} for logits in (expected, results[0]))
    assert agreement(compared, got, Numbers.of(ir.DataType.FLOAT)).ok
