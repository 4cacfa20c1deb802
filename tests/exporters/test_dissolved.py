"""The dissolved form: grafted, run, verified by undoing it, extracted, and refused where it is not exact."""

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

from compacter_core.adapter import Adapter
from compacter_core.cli.main import main
from compacter_core.config import ATTACH_PRESETS, Attach, Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.vocabulary import Activation, Input, NormStyle, ProjectionKind, ScalingKind, Skip
from compacter_exporters.agreement import AGREEMENT
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.linears import find_linears
from compacter_exporters.metadata import extract
from compacter_exporters.verify import verify
from tests.exporters.quantising import Bits4, bits4
from tests.exporters.stacks import BackboneStack, StackOptions, make_adapter
from tests.support.strategies import projections

HOUSLBY = ATTACH_PRESETS["houlsby"]


def built(folder: Path, options: StackOptions | None = None, **adapter: Any) -> tuple[Path, Adapter]:
    """A backbone and an adapter without an activation."""
    stack = BackboneStack(options or StackOptions(), hidden=8, seed=0)
    backbone = stack.save(folder / "backbone.onnx")
    made: dict[str, Any] = {
        "projection": Projection.compacter(phm_dim=2),
        "bottleneck": 4,
        "scale": 0.3,
        "non_linearity": Activation.IDENTITY,
        **adapter,
    }
    return backbone, make_adapter(stack, **made)


def logits(model: Path) -> np.ndarray:
    tokens = np.random.default_rng(3).integers(0, 5, (3, 6))
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"input_ids": tokens})[0])


def computing(model: Path) -> int:
    """Nodes that compute something from the input."""
    return sum(node.op_type not in ("Transpose", "Identity") for node in load_graph(model).graph)


def refused(backbone: Path, adapter: Adapter, text: str) -> None:
    with pytest.raises(CompacterError, match=text) as caught:
        graft(backbone, adapter, backbone.parent / "merged.onnx", form=Form.DISSOLVED)
    assert caught.value.code is ErrorCode.E605
    assert sorted(path.name for path in backbone.parent.iterdir()) == ["backbone.onnx"]


@pytest.mark.spec("ONX-30")
@pytest.mark.parametrize("norm_style", NormStyle)
@pytest.mark.parametrize(
    "spelling",
    [
        {},
        {"dtype": np.float64},
        {"bias_first": True},
        {"transposed": True},
        {"merged": True},
        {"with_bias": False},
    ],
    ids="-".join,
)
def test_every_spelling(tmp_path: Path, spelling: dict[str, Any], norm_style: NormStyle) -> None:
    backbone, adapter = built(tmp_path, StackOptions(norm_style=norm_style, **spelling))
    report = graft(backbone, adapter, tmp_path / "merged.onnx", form=Form.DISSOLVED)
    assert set(report.forms.values()) == {"dissolved"}
    verified = verify(tmp_path / "merged.onnx", adapter)
    assert verified.ok, verified.as_text()
    assert set(verified.forms.values()) == {"dissolved"}
    assert len(verified.sites) == len(verified.sums) == 2
    assert extract(tmp_path / "merged.onnx") == adapter_bytes(adapter)
    graft(backbone, adapter, tmp_path / "plain.onnx", form=Form.PLAIN)
    got, expected = logits(tmp_path / "merged.onnx"), logits(tmp_path / "plain.onnx")
    assert np.abs(got - expected).max() <= AGREEMENT * np.abs(expected).max()
    # Biases that the layers did not have; elsewhere a Transpose or Identity may go with the constant behind it.
    extra = 2 if spelling == {"with_bias": False} else 0
    assert computing(tmp_path / "merged.onnx") == computing(backbone) + extra


@pytest.mark.spec("ONX-30")
@settings(max_examples=8)
@given(data=st.data())
@pytest.mark.parametrize("kind", ProjectionKind)
def test_every_projection(kind: ProjectionKind, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    projection = data.draw(projections(kind=kind))
    unit = projection.phm_dim or 1
    stack = BackboneStack(StackOptions(), hidden=unit * data.draw(st.integers(-(-4 // unit), 6)), seed=0)
    folder = tmp_path_factory.mktemp("drawn")
    backbone = stack.save(folder / "backbone.onnx")
    adapter = make_adapter(
        stack,
        projection=projection,
        bottleneck=unit * data.draw(st.integers(1, 3)),
        non_linearity=Activation.IDENTITY,
        bias_down=data.draw(st.booleans()),
        bias_up=data.draw(st.booleans()),
        scaling=data.draw(st.sampled_from([1.0, -0.5, *ScalingKind])),
        scale=data.draw(st.sampled_from([2.0**-6, 0.25])),
        seed=data.draw(st.integers(0, 99)),
    )
    graft(backbone, adapter, folder / "merged.onnx", form=Form.DISSOLVED)
    report = verify(folder / "merged.onnx", adapter)
    assert report.ok, report.as_text()


def change(model: Path, name: str, entry: tuple[int, ...], by: float) -> None:
    """Add to one entry of an initialiser."""
    proto = onnx.load(model)
    tensor = next(one for one in proto.graph.initializer if one.name == name)
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[entry] += by
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    onnx.save(proto, model)


@pytest.mark.spec("ONX-30")
def test_a_changed_weight_or_bias_is_noticed(tmp_path: Path) -> None:
    backbone, adapter = built(tmp_path)
    merged = tmp_path / "merged.onnx"
    prefix = "compacter/tested/encoder.0.ffn"
    graft(backbone, adapter, merged, form=Form.DISSOLVED)
    change(merged, f"{prefix}/weight", (1, 2), 0.01)
    with pytest.raises(CompacterError, match="weight of site") as caught:
        verify(merged, adapter)
    assert caught.value.code is ErrorCode.E403
    graft(backbone, adapter, merged, form=Form.DISSOLVED)
    change(merged, f"{prefix}/bias", (2,), 0.01)
    report = verify(merged, adapter)
    assert not report.ok
    assert "bias before the adapter" in str(report.sites["encoder.0.ffn"].problem)
    with pytest.raises(CompacterError) as caught:
        extract(merged)
    assert caught.value.code is ErrorCode.E603


@pytest.mark.spec("ONX-30")
def test_another_adapter_is_not_in_the_weights(tmp_path: Path) -> None:
    backbone, adapter = built(tmp_path)
    graft(backbone, adapter, tmp_path / "merged.onnx", form=Form.DISSOLVED)
    tensors = {name: 2 * array if "W_right" in name else array for name, array in adapter.tensors.items()}
    with pytest.raises(CompacterError, match="weight of site"):
        verify(tmp_path / "merged.onnx", replace(adapter, tensors=tensors))


@pytest.mark.spec("ONX-30")
@pytest.mark.parametrize("scale", [0.0, 1e-4])
def test_a_faint_adapter_is_told_from_none(tmp_path: Path, scale: float) -> None:
    """In its plain form it is found as such, and a backbone without it is not taken for one with it."""
    backbone, adapter = built(tmp_path, projection=Projection(kind=ProjectionKind.DENSE), scale=scale)
    for form in (Form.DISSOLVED, Form.PLAIN):
        graft(backbone, adapter, tmp_path / "merged.onnx", form=form)
        report = verify(tmp_path / "merged.onnx", adapter)
        assert report.ok, report.as_text()
        assert set(report.forms.values()) == {form.value}
    if scale:
        assert not verify(backbone, adapter).ok


@pytest.mark.spec("ONX-30")
def test_weights_of_an_external_file_go_to_another_and_it_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    backbone, adapter = built(tmp_path / "built")
    source = tmp_path / "backbone"
    source.mkdir()
    ir.save(ir.load(backbone), source / "model.onnx", external_data="model.onnx.data")
    before = (source / "model.onnx.data").read_bytes()
    for output in (source / "beside.onnx", tmp_path / "elsewhere/model.onnx"):
        report = graft(source / "model.onnx", adapter, output, form=Form.DISSOLVED)
        assert report.data_files[-1] == f"{output.name}.own.data"
        assert (source / "model.onnx.data").read_bytes() == before
        model = load_graph(output)
        weights = [layer.node.inputs[1] for layer in find_linears(model.graph) if layer.weight.shape == (8, 8)]
        assert len(weights) == 2
        for value in weights:
            assert value is not None
            assert isinstance(value.const_value, ir.ExternalTensor)
            assert value.const_value.location == f"{output.name}.own.data"
        assert verify(output, adapter).ok
        assert extract(output) == adapter_bytes(adapter)
        np.testing.assert_array_equal(logits(output), logits(source / "beside.onnx"))


@pytest.mark.spec("ONX-30")
@pytest.mark.parametrize("activation", [one for one in Activation if one is not Activation.IDENTITY])
def test_an_activation_is_refused(tmp_path: Path, activation: Activation) -> None:
    refused(*built(tmp_path, non_linearity=activation), "between the projections is not linear")


@pytest.mark.spec("ONX-30")
@pytest.mark.parametrize(
    "attach",
    [
        *(placement for placement in ATTACH_PRESETS.values() if placement != HOUSLBY),
        Attach(input=Input.RESIDUAL, skip=Skip.NORMED_SUM, post=False),
        Attach(skip=Skip.RESIDUAL_SUM, post=False),
    ],
    ids=str,
)
def test_another_placement_is_refused(tmp_path: Path, attach: Attach) -> None:
    refused(*built(tmp_path, attach=attach), "both read and add")


@pytest.mark.spec("ONX-30")
def test_half_precision_is_refused(tmp_path: Path) -> None:
    refused(*built(tmp_path, StackOptions(dtype=np.float16)), "too coarse")


@pytest.mark.spec("ONX-30")
def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    backbone, adapter = built(tmp_path)
    (tmp_path / "quantised").mkdir()
    refused(bits4(backbone, tmp_path / "quantised/backbone.onnx", Bits4()), adapter, "quantised, in MatMulNBits")


@pytest.mark.spec("ONX-30")
def test_an_adapter_that_cannot_be_undone_is_refused(tmp_path: Path) -> None:
    """I + Wd Wu = 0: nothing of the layer is left."""
    backbone, adapter = built(tmp_path, projection=Projection(kind=ProjectionKind.DENSE), bottleneck=8)
    eye = np.eye(8, dtype=np.float32)
    values = {"down.W": eye, "up.W": -eye}
    tensors = {
        name: next((value for end, value in values.items() if name.endswith(end)), array)
        for name, array in adapter.tensors.items()
    }
    refused(backbone, replace(adapter, tensors=tensors), "could not be undone")


def test_the_command_has_the_form(tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    backbone, adapter = built(tmp_path / "built")
    (tmp_path / "adapter.safetensors").write_bytes(adapter_bytes(adapter))
    files = [str(backbone), str(tmp_path / "adapter.safetensors"), "-o", str(tmp_path / "merged.onnx")]
    assert main(["graft", *files, "--form", "dissolved", "--json"]) == 0
    assert main(["verify", str(tmp_path / "merged.onnx"), "--adapter", str(tmp_path / "adapter.safetensors")]) == 0
