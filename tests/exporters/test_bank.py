"""Banks: every row within the bounds of its own adapter, in every placement, spelling and projection."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_core.adapter import Adapter
from compacter_core.config import ATTACH_PRESETS, Override, Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.linkage.bank import ADAPTER_ID, BankLayout, bank_input
from compacter_core.vocabulary import Activation, NormStyle, OverrideKind, ProjectionKind, ScalingKind
from compacter_exporters.forms import Form
from compacter_exporters.functions import DOMAIN
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.verify_open import verify_open
from compacter_exporters.verify import AGREEMENT
from compacter_exporters.verify_report import VerifyReport
from compacter_runtime import Session
from tests.exporters.stacks import LABELS, ROWS, BackboneStack, StackOptions, make_adapter
from tests.support.strategies import projections

COMPACTER = Projection.compacter(phm_dim=2)
CALLS = "calls.onnx"
"""The bank in the form sublayer."""
INPUTS = {"input_ids": np.random.default_rng(5).integers(0, ROWS, (3, 7))}


def built(options: StackOptions, hidden: int = 8, seed: int = 0) -> BackboneStack:
    stack = BackboneStack(options, hidden=hidden, seed=seed)
    stack.model()
    return stack


def banked(folder: Path, stack: BackboneStack, adapters: list[Adapter], *, shapes: bool = True) -> VerifyReport:
    """Verify a bank made for the first adapter that holds them all; rows without an adapter are the backbone's.

    The backbone has the shapes of its values written down, as exporters for PyTorch do, or not. The bank whose sites
    are calls, as far as they can be, is verified besides; its checks stand among those of sites.
    """
    backbone = BackboneStack(stack.options, hidden=stack.hidden, seed=stack.seed).save(folder / "backbone.onnx")
    if shapes:
        onnx.shape_inference.infer_shapes_path(backbone)
    bare = Session(backbone).run(INPUTS)["logits"]
    for name, form in ((CALLS, Form.SUBLAYER), ("bank.onnx", Form.AUTO)):
        graft_bank(backbone, adapters[0], folder / name, form=form)
        got = Session(folder / name).run(INPUTS)["logits"]
        assert np.abs(got[:, :LABELS] - bare).max() <= _limit(stack) * np.abs(bare).max()
    report, calls = verify_open(folder / "bank.onnx", adapters), verify_open(folder / CALLS, adapters)
    parts = {"site": calls.sites, "sum": calls.sums, "norm": calls.norms, "head": calls.head}
    checks = {f"calls: {part} {name}": check for part, of_part in parts.items() for name, check in of_part.items()}
    return replace(report, sites={**report.sites, **checks})


def _limit(stack: BackboneStack) -> float:
    return AGREEMENT * (2.0**-29 if stack.options.dtype is np.float64 else 1.0)


def assert_passes(report: VerifyReport) -> None:
    assert report.ok, report.as_text()
    assert report.norms
    assert report.head
    assert any(name.startswith("no adapter") for name in report.sites)


@pytest.mark.spec("LNK-11", "LNK-12")
@pytest.mark.parametrize("norm_style", NormStyle)
@pytest.mark.parametrize("operator_norm", [True, False])
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
def test_every_placement(tmp_path: Path, preset: str, operator_norm: bool, norm_style: NormStyle) -> None:
    stack = built(StackOptions(operator_norm=operator_norm, norm_style=norm_style))
    adapters = [
        make_adapter(stack, projection=COMPACTER, bottleneck=4, attach=ATTACH_PRESETS[preset], seed=seed)
        for seed in (1, 2)
    ]
    assert_passes(banked(tmp_path, stack, adapters))


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("opset", [14, 20])
def test_every_activation(tmp_path: Path, activation: Activation, opset: int) -> None:
    stack = built(StackOptions(opset=opset, operator_norm=opset >= 17))
    adapter = make_adapter(stack, projection=COMPACTER, bottleneck=4, non_linearity=activation)
    assert_passes(banked(tmp_path, stack, [adapter]))


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
    stack = built(StackOptions(**spelling))
    adapter = make_adapter(stack, projection=COMPACTER, bottleneck=4, non_linearity=Activation.RELU)
    assert_passes(banked(tmp_path, stack, [adapter]))


def test_biases_of_the_backbone_are_replaced(tmp_path: Path) -> None:
    stack = built(StackOptions())
    biases = tuple(Override(name=f"layer.{index}.bias", kind=OverrideKind.BIAS) for index in range(2))
    for preset in ATTACH_PRESETS.values():
        adapters = [
            make_adapter(stack, projection=COMPACTER, bottleneck=4, overrides=biases, attach=preset, seed=seed)
            for seed in (1, 2)
        ]
        report = banked(tmp_path, stack, adapters)
        assert report.ok, report.as_text()


@pytest.mark.spec("LNK-14")
@settings(max_examples=5)
@given(data=st.data())
@pytest.mark.parametrize("kind", ProjectionKind)
def test_every_projection(kind: ProjectionKind, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The template, and another adapter with fewer sites, smaller bottlenecks and ranks, on the same graph."""
    projection = data.draw(projections(kind=kind))
    unit = projection.phm_dim or 1
    stack = built(
        StackOptions(), hidden=unit * data.draw(st.integers(-(-4 // unit), 6)), seed=data.draw(st.integers(0, 99))
    )
    width = data.draw(st.integers(1, 4))
    common = {
        "bias_up": data.draw(st.booleans()),
        "scaling": data.draw(st.sampled_from([1.0, -0.5, *ScalingKind])),
        "scale": data.draw(st.sampled_from([2.0**-6, 0.5, 2.0])),
    }
    adapters = [
        make_adapter(
            stack, projection=projection, bottleneck=unit * width, seed=data.draw(st.integers(0, 99)), **common
        ),
        make_adapter(
            stack,
            projection=projection,
            bottleneck=unit * data.draw(st.integers(1, width)) if not projection.shared_W else unit * width,
            bias_down=data.draw(st.booleans()),
            seed=data.draw(st.integers(0, 99)),
            **common,
        ),
    ]
    assert_passes(banked(tmp_path_factory.mktemp("drawn"), stack, adapters))


@pytest.mark.spec("LNK-14")
@pytest.mark.parametrize("shared_W", [True, False])
@pytest.mark.parametrize("shared_phm_rule", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in ProjectionKind if kind.has_rule])
def test_what_sites_share_stands_once(
    tmp_path: Path, kind: ProjectionKind, shared_phm_rule: bool, shared_W: bool
) -> None:
    rank = 2 if kind.has_rank else None
    projection = Projection(kind=kind, phm_dim=2, phm_rank=rank, shared_phm_rule=shared_phm_rule, shared_W=shared_W)
    stack = built(StackOptions())
    adapters = [
        make_adapter(stack, projection=projection, bottleneck=4, scaling=ScalingKind.LEARNED, seed=seed)
        for seed in (1, 2)
    ]
    assert_passes(banked(tmp_path, stack, adapters))


def test_the_rule_may_be_shared_in_an_adapter_alone(tmp_path: Path) -> None:
    stack = built(StackOptions())
    own = replace(COMPACTER, shared_phm_rule=False)
    adapters = [make_adapter(stack, projection=one, bottleneck=4) for one in (own, COMPACTER)]
    assert_passes(banked(tmp_path, stack, adapters))


@pytest.mark.spec("LNK-11")
@pytest.mark.parametrize("tensor", ["down.left", "up.right", "down.bias", "up.bias", "rule", "overrides"])
def test_a_wrong_tensor_is_found(tmp_path: Path, tensor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bank takes an entry with one value off; `verify` must not pass, with calls or without."""
    stack = built(StackOptions())
    adapter = make_adapter(stack, projection=COMPACTER, bottleneck=4)
    original = BankLayout.entry

    def wrong(self: BankLayout, given: Adapter | None) -> dict[str, Any]:
        entry = original(self, given)
        if given is not None:
            entry[tensor].flat[0] += 0.01
        return entry

    monkeypatch.setattr(BankLayout, "entry", wrong)
    report = banked(tmp_path, stack, [adapter])
    calls = {name: check for name, check in report.sites.items() if name.startswith("calls: ")}
    assert not all(check.ok for check in calls.values())
    assert not replace(report, sites={name: report.sites[name] for name in report.sites.keys() - calls.keys()}).ok


@pytest.mark.spec("LNK-21", "LNK-12")
@pytest.mark.parametrize(
    ("shapes", "changes", "with_linears"),
    [
        (True, {}, True),
        (True, {"bias_up": False}, False),
        (True, {"scaling": ScalingKind.CHANNEL}, False),
        (True, {"attach": ATTACH_PRESETS["parallel"]}, True),
        (True, {"attach": ATTACH_PRESETS["pfeiffer"]}, True),
        (True, {"attach": ATTACH_PRESETS["adapter_plus"]}, False),
        (False, {}, False),
    ],
)
def test_where_the_bias_of_a_row_is_added(
    tmp_path: Path, shapes: bool, changes: dict[str, Any], with_linears: bool
) -> None:
    """With the linear's bias, once for all tokens, where the graph says that its product has rows, tokens, features."""
    stack = built(StackOptions())
    adapters = [make_adapter(stack, projection=COMPACTER, bottleneck=4, seed=seed, **changes) for seed in (1, 2)]
    assert_passes(banked(tmp_path, stack, adapters, shapes=shapes))
    names = {str(node.name) for node in ir.load(tmp_path / "bank.onnx").graph}
    for site in adapters[0].config.sites:
        assert (f"compacter/bank/{site.id}/bias" in names) is with_linears
        added = adapters[0].config.bias_up and not with_linears
        assert (f"compacter/bank/{site.id}/up/biased" in names) is added


@pytest.mark.spec("LNK-11")
@pytest.mark.parametrize("parts", [("weight", "bias"), ("weight",), ("bias",)])
@pytest.mark.parametrize("norm_style", NormStyle)
def test_gains_and_biases_of_rows_are_applied_behind_norms(
    tmp_path: Path, norm_style: NormStyle, parts: tuple[str, ...]
) -> None:
    """No LayerNormalization reads what differs by row; a gain that stays the backbone's stays in it."""
    stack = built(StackOptions(norm_style=norm_style))
    names = ("embeddings.norm", "layer.0.norm", "layer.1.norm")
    overrides = tuple(Override(name=f"{name}.{part}", kind=OverrideKind.NORM) for name in names for part in parts)
    adapters = [
        make_adapter(stack, projection=COMPACTER, bottleneck=4, overrides=overrides, seed=seed) for seed in (1, 2)
    ]
    assert_passes(banked(tmp_path, stack, adapters))
    norms = [node for node in ir.load(tmp_path / "bank.onnx").graph if node.op_type == "LayerNormalization"]
    assert len(norms) == len(names)
    for node in norms:
        gain, *rest = node.inputs[1:]
        assert gain is not None
        assert gain.const_value is not None
        assert not rest
        assert np.all(gain.const_value.numpy() == 1.0)
        behind = [reader.op_type for reader in node.outputs[0].consumers()]
        assert behind == (["Mul"] if "weight" in parts else ["Add"])


@pytest.mark.spec("LNK-10")
def test_inputs_of_the_graph(tmp_path: Path) -> None:
    stack = built(StackOptions())
    banked(tmp_path, stack, [make_adapter(stack, projection=COMPACTER, bottleneck=4)])
    model = ir.load(tmp_path / "bank.onnx")
    by_name = {value.name: value for value in model.graph.inputs}
    assert by_name[ADAPTER_ID].dtype is ir.DataType.INT64
    names = ("down.left", "down.right", "down.bias", "up.left", "up.right", "up.bias", "rule", "overrides")
    heads = ("head.classifier.weight", "head.classifier.bias")
    assert set(by_name) == {"input_ids", ADAPTER_ID, *map(bank_input, (*names, *heads))}
    assert all(value.is_initializer() for name, value in by_name.items() if str(name).startswith("compacter/"))


def test_a_head_without_a_bias_is_refused(tmp_path: Path) -> None:
    stack = built(StackOptions())
    adapter = make_adapter(stack, projection=COMPACTER, bottleneck=4)
    assert adapter.config.head is not None
    head = replace(adapter.config.head, shapes={"classifier.weight": (5, 8)})
    tensors = {name: array for name, array in adapter.tensors.items() if name != "head.classifier.bias"}
    with pytest.raises(CompacterError, match="head with a bias") as caught:
        banked(tmp_path, stack, [replace(adapter, config=replace(adapter.config, head=head), tensors=tensors)])
    assert caught.value.code is ErrorCode.E605


@pytest.mark.spec("LNK-23")
@pytest.mark.parametrize("norm_style", NormStyle)
@pytest.mark.parametrize("kind", ProjectionKind)
def test_sites_are_calls(tmp_path: Path, kind: ProjectionKind, norm_style: NormStyle) -> None:
    """Of as few nodes as there are: behind the last product of a sublayer nothing but the call is left."""
    stack = built(StackOptions(norm_style=norm_style))
    n, r = 2 if kind.has_rule else None, 1 if kind.has_rank else None
    projection = Projection(kind=kind, phm_dim=n, phm_rank=r)
    adapters = [make_adapter(stack, projection=projection, bottleneck=4, seed=seed) for seed in (1, 2)]
    assert_passes(banked(tmp_path, stack, adapters))
    model = ir.load(tmp_path / CALLS)
    called = [node.op_type for node in model.graph if node.domain == DOMAIN]
    call = "Norm" if norm_style is NormStyle.POST else "Residual"
    assert called == len(adapters[0].config.sites) * [f"{call}_bank_{kind}_gelu_new_bd_bu_b_FLOAT"]
    nodes = [name for node in model.graph if (name := str(node.name)).startswith(bank_input("rows"))]
    kept = tuple(bank_input(f"rows/{name}") for name in ("head.", "overrides"))
    assert [name for name in nodes if not name.startswith(kept)] == [bank_input("rows/entry")]
    assert model.metadata_props["compacter.form"] == "sublayer"


@pytest.mark.spec("LNK-23")
@pytest.mark.parametrize(
    "options", [{"bias_up": False}, {"scaling": ScalingKind.CHANNEL}, {"attach": ATTACH_PRESETS["pfeiffer"]}]
)
def test_sites_that_cannot_be_calls_are_none(tmp_path: Path, options: dict[str, Any]) -> None:
    stack = built(StackOptions())
    adapter = make_adapter(stack, projection=COMPACTER, bottleneck=4, **options)
    assert_passes(banked(tmp_path, stack, [adapter]))
    model = ir.load(tmp_path / CALLS)
    assert not any(node.domain == DOMAIN for node in model.graph)
    assert "compacter.form" not in model.metadata_props
