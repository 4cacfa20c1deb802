"""ALBERT runs each of its layers several times: every call gets the adapter and its norms, and is verified."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import AutoConfig, AutoModelForSequenceClassification

from compacter_core.adapter import Adapter
from compacter_core.config import ATTACH_PRESETS
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.pytorch import detach
from compacter_core.vocabulary import Activation
from compacter_exporters.backbone import export_backbone
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.graph_check import RELATIVE_LIMIT
from compacter_exporters.linears import find_linears
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.metadata import extract
from compacter_exporters.norms import find_norms
from compacter_exporters.quiet import quiet
from compacter_exporters.verify import verify
from compacter_runtime import Session
from tests.exporters_backbone.backends import BACKENDS
from tests.pytorch.helpers import attach_trained, logits, tiny_adapter_config
from tests.support.backbones import BACKBONES, VOCABULARY, randomise

CALLS = 2


@dataclass(frozen=True)
class Albert:
    """A classifier and its graph."""

    model: Any
    backbone: Path


@pytest.fixture(scope="module")
def albert(tmp_path_factory: pytest.TempPathFactory) -> Albert:
    """A model that looks trained."""
    folder = tmp_path_factory.mktemp("albert")
    options = {"vocab_size": VOCABULARY, "num_labels": 3, "pad_token_id": 0, **BACKBONES["albert"]}
    config = AutoConfig.for_model("albert", **options)
    with torch.random.fork_rng(devices=[]):
        model: Any = AutoModelForSequenceClassification.from_config(config).eval()
    randomise(model)
    model.save_pretrained(folder / "checkpoint")
    return Albert(model, export_backbone(folder / "checkpoint", folder / "onnx", backend=BACKENDS[0]))


def inputs_of(session: Session) -> dict[str, np.ndarray]:
    tokens = np.random.default_rng(0).integers(5, VOCABULARY, (3, 7))
    named = {name: np.zeros_like(tokens) for name in session.input_names}
    return named | {"attention_mask": np.ones_like(tokens), "input_ids": tokens}


CASES = [(preset, Form.AUTO, Activation.GELU) for preset in ATTACH_PRESETS] + [
    ("houlsby", Form.PLAIN, Activation.GELU),
    ("houlsby", Form.FUNCTION, Activation.RELU),
    ("houlsby", Form.DISSOLVED, Activation.IDENTITY),
]


@pytest.mark.spec("ONX-37", "ONX-4")
@pytest.mark.parametrize(("preset", "form", "activation"), CASES)
def test_every_call_gets_the_adapter(
    albert: Albert, preset: str, form: Form, activation: Activation, tmp_path: Path
) -> None:
    model, merged = albert.model, tmp_path / "merged.onnx"
    config = tiny_adapter_config(model, attach=ATTACH_PRESETS[preset], non_linearity=activation)
    adapter = attach_trained(model, config).to_adapter()
    try:
        graft(albert.backbone, adapter, merged, form=form)
        session = Session(merged)
        inputs = inputs_of(session)
        with torch.no_grad():
            expected = logits(model, {"input_ids": torch.from_numpy(inputs["input_ids"])}).numpy()
    finally:
        detach(model)
    got = session.run(inputs)["logits"]
    assert np.abs(got - expected).max() <= RELATIVE_LIMIT * np.abs(expected).max()
    report = verify(merged, adapter)
    assert report.ok, report.as_text()
    assert len(report.sites) == CALLS * len(adapter.config.sites)
    assert sum(name.startswith("merged call 2") for name in report.sites) == len(adapter.config.sites)
    # Every norm but that of the embeddings once in each call, and again where the placement computes it twice.
    twice = 2 if preset == "pfeiffer" else 1
    assert len(report.norms) >= CALLS * (twice * len(adapter.config.sites) + 1)
    assert extract(merged) == adapter_bytes(adapter)
    names = [str(node.name) for node in load_graph(merged).graph]
    assert len(names) == len(set(names))


@pytest.mark.spec("ONX-37", "ONX-25")
def test_calls_share_the_constants(albert: Albert, tmp_path: Path) -> None:
    adapter = attach_trained(albert.model).to_adapter()
    detach(albert.model)
    graft(albert.backbone, adapter, tmp_path / "merged.onnx")
    names = [name for name in load_graph(tmp_path / "merged.onnx").graph.initializers if name.endswith("up.weight")]
    assert sorted(names) == sorted(f"compacter/{adapter.config.name}/{s.id}/up.weight" for s in adapter.config.sites)


def _other_norm(model: ir.Model) -> None:
    """The last norm, which is of the last call, has a gain of its own."""
    slot = find_norms(model.graph)[-1].gain
    value = ir.val("other", const_value=ir.tensor(slot.array() + np.float32(0.5), name="other"))
    model.graph.register_initializer(value)
    slot.node.replace_input_with(slot.index, value)


def _equal_norms(model: ir.Model) -> None:
    """Every norm of a layer looks as in a model that was never trained."""
    for name, array in (("gain", np.ones(16, np.float32)), ("bias", np.zeros(16, np.float32))):
        value = ir.val(name, const_value=ir.tensor(array, name=name))
        model.graph.register_initializer(value)
        for norm in find_norms(model.graph):
            slot = norm.gain if name == "gain" else norm.bias
            if slot is not None and slot.array().shape == array.shape:
                slot.node.replace_input_with(slot.index, value)


def _other_weight(model: ir.Model) -> None:
    """The last call of the last layer has a weight of its own, which comes from that of the first."""
    layer = [one for one in find_linears(model.graph) if one.weight.shape == (24, 16)][-1]
    weight = layer.values().T if layer.weight_is_transposed else layer.values()
    value = ir.val("other", const_value=ir.tensor(np.float32(1.01) * weight, name="other"))
    model.graph.register_initializer(value)
    layer.node.replace_input_with(1, value)


@pytest.mark.spec("ONX-37")
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_other_norm, "differ between calls"),
        (_equal_norms, "cannot be told apart"),
        (_other_weight, "2 weights match its sketch"),
    ],
)
def test_calls_of_other_tensors_are_refused(
    albert: Albert, change: Callable[[ir.Model], None], text: str, tmp_path: Path
) -> None:
    adapter = attach_trained(albert.model).to_adapter()
    detach(albert.model)
    model = ir.load(albert.backbone)
    ir.external_data.load_to_model(model)
    change(model)
    ir.save(model, tmp_path / "other.onnx")
    with pytest.raises(CompacterError, match=text) as caught:
        graft(tmp_path / "other.onnx", adapter, tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E604


@pytest.mark.spec("ONX-37")
def test_a_call_without_the_adapter_fails_verification(albert: Albert, tmp_path: Path) -> None:
    adapter = attach_trained(albert.model).to_adapter()
    detach(albert.model)
    graft(albert.backbone, adapter, tmp_path / "merged.onnx")
    model = onnx.load(tmp_path / "merged.onnx")
    last = [node for node in model.graph.node if "call2" in node.name and node.name.endswith("/up")][-1]
    last.input[1] = next(one.name for one in model.graph.initializer if one.name.endswith("encoder.0.ffn/up.weight"))
    onnx.save(model, tmp_path / "merged.onnx")
    report = verify(tmp_path / "merged.onnx", adapter)
    failed = [name for name, check in report.sites.items() if not check.ok]
    assert len(failed) == 1
    assert failed[0].startswith("merged call 2")


OPENERS = pytest.mark.parametrize("opener", [graft_swappable, graft_bank])


def run_open(path: Path, adapter: Adapter | None, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The logits; in a bank every other row has the adapter, if there is one."""
    session = Session(path)
    choice: Any = None
    if adapter is not None:
        name = session.bank.add(adapter) if session.has_bank else session.load_adapter(adapter)
        choice = [name, None, name] if session.has_bank else name
    return np.asarray(session.run(inputs, adapter=choice)["logits"])


@pytest.mark.spec("ONX-45", "LNK-1", "LNK-11", "LNK-12")
@OPENERS
def test_every_call_takes_the_same_adapter(albert: Albert, opener: Callable[..., Any], tmp_path: Path) -> None:
    model, graph = albert.model, tmp_path / "open.onnx"
    adapter = attach_trained(model).to_adapter()
    opener(albert.backbone, adapter, graph)
    inputs = inputs_of(Session(albert.backbone))
    with torch.no_grad():
        expected = logits(model, {"input_ids": torch.from_numpy(inputs["input_ids"])}).numpy()
    detach(model)
    bare = Session(albert.backbone).run(inputs)["logits"]
    got, without = run_open(graph, adapter, inputs), run_open(graph, None, inputs)
    if opener is graft_bank:
        expected[1::2] = bare[1::2]
    assert np.abs(got - expected).max() <= RELATIVE_LIMIT * np.abs(expected).max()
    assert np.abs(without - bare).max() <= (0 if opener is graft_swappable else RELATIVE_LIMIT * np.abs(bare).max())
    report = verify(graph, adapter)
    assert report.ok, report.as_text()
    groups = 2 if opener is graft_bank else 1  # the rows without an adapter too
    for call in range(CALLS):
        named = [name for name in report.sites if f"call {call + 1}: encoder" in name]
        assert len(named) == groups * len(adapter.config.sites)
    names = [str(node.name) for node in load_graph(graph).graph if str(node.name).startswith("compacter/")]
    assert len(names) == len(set(names))


@pytest.mark.spec("ONX-45")
@OPENERS
def test_an_open_call_without_the_adapter_fails_verification(
    albert: Albert, opener: Callable[..., Any], tmp_path: Path
) -> None:
    adapter = attach_trained(albert.model).to_adapter()
    detach(albert.model)
    opener(albert.backbone, adapter, tmp_path / "open.onnx")
    model = onnx.load(tmp_path / "open.onnx")
    first, second = (
        next(node for node in model.graph.node if node.name.endswith(f"encoder.0.ffn{call}/before_bias"))
        for call in ("", "/call2")
    )
    second.input[1] = first.input[1]
    onnx.save(model, tmp_path / "open.onnx")
    failed = [name for name, check in verify(tmp_path / "open.onnx", adapter).sites.items() if not check.ok]
    assert failed
    assert all("call 2: encoder.0.ffn" in name for name in failed)


@pytest.mark.spec("ONX-37")
def test_one_call_may_be_quantised_and_another_not(albert: Albert, tmp_path: Path) -> None:
    adapter = attach_trained(albert.model).to_adapter()
    detach(albert.model)
    # The quantiser passes over a weight that a call has through an Identity.
    *_, last = [
        one.node.name
        for one in find_linears(load_graph(albert.backbone).graph)
        if one.weight.shape == (24, 16) and one.node.inputs[1] is not None and one.node.inputs[1].is_initializer()
    ]
    mixed, merged = tmp_path / "mixed.onnx", tmp_path / "merged.onnx"
    with quiet():
        quantize_dynamic(onnx.load(albert.backbone), mixed, nodes_to_quantize=[last], weight_type=QuantType.QInt8)
    graft(mixed, adapter, merged)
    report = verify(merged, adapter)
    assert report.ok, report.as_text()
    assert sum(one.quantised is not None for one in find_linears(load_graph(merged).graph)) == 1
