"""Grafts into hand-written graphs: every spelling, placement, form, projection and activation passes verification."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_core.config import ATTACH_PRESETS, Attach, Projection
from compacter_core.vocabulary import Activation, Input, NormStyle, ProjectionKind, ScalingKind, Skip
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.verify import VerifyReport, verify
from tests.exporters.rms_spellings import RmsSpelling
from tests.exporters.stacks import BackboneStack, StackOptions, make_adapter
from tests.support.strategies import projections

PLACEMENTS = {
    **ATTACH_PRESETS,
    "residual_in_normed_out": Attach(input=Input.RESIDUAL, skip=Skip.NORMED_SUM, post=False),
    "sum_out": Attach(skip=Skip.RESIDUAL_SUM, post=False),
    "normed_in_sum_out": Attach(input=Input.NORMED_SUM, skip=Skip.RESIDUAL_SUM, post=False),
}
COMPACTER = Projection.compacter(phm_dim=2)


def graft_and_verify(
    folder: Path,
    options: StackOptions,
    *,
    form: Form = Form.AUTO,
    attach: Attach | None = None,
    non_linearity: Activation = Activation.GELU_NEW,
) -> VerifyReport:
    stack = BackboneStack(options, hidden=8, seed=0)
    backbone = stack.save(folder / "backbone.onnx")
    made = make_adapter(stack, projection=COMPACTER, bottleneck=4, attach=attach, non_linearity=non_linearity)
    graft(backbone, made, folder / "merged.onnx", form=form)
    return verify(folder / "merged.onnx", made)


def assert_passes(report: VerifyReport) -> None:
    assert report.ok, report.as_text()
    assert report.norms
    assert report.head
    assert report.sites


@pytest.mark.spec("ONX-1", "ONX-2")
@pytest.mark.parametrize("norm_style", NormStyle)
@pytest.mark.parametrize("operator_norm", [True, False])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_placement(tmp_path: Path, placement: str, operator_norm: bool, norm_style: NormStyle) -> None:
    options = StackOptions(operator_norm=operator_norm, norm_style=norm_style)
    report = graft_and_verify(tmp_path, options, attach=PLACEMENTS[placement])
    assert_passes(report)
    assert set(report.forms.values()) == {"bias-last" if placement == "houlsby" else "plain"}


@pytest.mark.spec("ONX-1")
@pytest.mark.parametrize("form", [Form.BIAS_LAST, Form.BIAS_FIRST, Form.COLUMN, Form.FOLD, Form.PLAIN])
@pytest.mark.parametrize("opset", [14, 17, 20])
@pytest.mark.parametrize("activation", Activation)
def test_every_activation(tmp_path: Path, activation: Activation, opset: int, form: Form) -> None:
    options = StackOptions(opset=opset, operator_norm=opset >= 17)
    assert_passes(graft_and_verify(tmp_path, options, form=form, non_linearity=activation))


@pytest.mark.spec("ONX-13")
@pytest.mark.parametrize("form", [Form.BIAS_LAST, Form.BIAS_FIRST, Form.COLUMN, Form.FOLD, Form.PLAIN])
@pytest.mark.parametrize(
    "spelling",
    [
        {"bias_first": True},
        {"transposed": True},
        {"merged": True},
        {"merged": True, "operator_norm": False, "opset": 18},
        {"with_bias": False},
        {"drop_zero_head_bias": True},
    ],
    ids="-".join,
)
def test_every_spelling(tmp_path: Path, spelling: dict[str, Any], form: Form) -> None:
    assert_passes(graft_and_verify(tmp_path, StackOptions(**spelling), form=form))


@pytest.mark.spec("ONX-10", "ONX-11")
@pytest.mark.parametrize("norm_style", NormStyle)
@pytest.mark.parametrize("spelling", RmsSpelling)
def test_every_spelling_of_a_root_mean_square_norm(
    tmp_path: Path, spelling: RmsSpelling, norm_style: NormStyle
) -> None:
    options = StackOptions(rms=spelling, norm_style=norm_style, opset=23 if spelling is RmsSpelling.OPERATOR else 17)
    for placement in ("houlsby", "pfeiffer"):
        assert_passes(graft_and_verify(tmp_path, options, attach=PLACEMENTS[placement]))


@pytest.mark.spec("ONX-1")
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_placement_behind_a_linear_without_a_bias(tmp_path: Path, placement: str) -> None:
    """Without a bias, the plain form and the folded one start with the same nodes."""
    options = StackOptions(with_bias=False, norm_style=NormStyle.PRE)
    assert_passes(graft_and_verify(tmp_path, options, attach=PLACEMENTS[placement]))


@pytest.mark.parametrize("form", [Form.BIAS_LAST, Form.BIAS_FIRST, Form.COLUMN, Form.FOLD, Form.PLAIN])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types(tmp_path: Path, dtype: type, form: Form) -> None:
    assert_passes(graft_and_verify(tmp_path, StackOptions(dtype=dtype), form=form, non_linearity=Activation.RELU))


@pytest.mark.spec("ONX-1", "ONX-3")
@settings(max_examples=12)
@given(data=st.data())
@pytest.mark.parametrize("form", [Form.BIAS_LAST, Form.BIAS_FIRST, Form.COLUMN, Form.FOLD, Form.PLAIN])
@pytest.mark.parametrize("kind", ProjectionKind)
def test_every_projection(
    kind: ProjectionKind, form: Form, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    projection = data.draw(projections(kind=kind))
    unit = projection.phm_dim or 1
    stack = BackboneStack(
        StackOptions(), hidden=unit * data.draw(st.integers(-(-4 // unit), 6)), seed=data.draw(st.integers(0, 99))
    )
    folder = tmp_path_factory.mktemp("drawn")
    backbone = stack.save(folder / "backbone.onnx")
    adapter = make_adapter(
        stack,
        projection=projection,
        bottleneck=unit * data.draw(st.integers(1, 4)),
        bias_down=data.draw(st.booleans()),
        bias_up=data.draw(st.booleans()),
        scaling=data.draw(st.sampled_from([1.0, -0.5, 3.0, *ScalingKind])),
        scale=data.draw(st.sampled_from([2.0**-6, 0.5, 2.0])),
        seed=data.draw(st.integers(0, 99)),
    )
    graft(backbone, adapter, folder / "merged.onnx", form=form)
    assert_passes(verify(folder / "merged.onnx", adapter, seed=data.draw(st.integers(0, 99))))
