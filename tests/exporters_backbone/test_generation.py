"""Decoders with their cache: exported, grafted, verified, and token for token what PyTorch generates."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from compacter_core.config import ATTACH_PRESETS
from compacter_core.pytorch import detach
from compacter_exporters.choices import MERGED_DECODER_FILE, Backend
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.graph import load_graph
from compacter_exporters.graph_check import RELATIVE_LIMIT
from compacter_exporters.verify import verify
from compacter_runtime.decoder import GraphDecoder
from compacter_runtime.kernels import calls_adapters
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.generators import (
    MODEL_TYPES,
    Generator,
    generated,
    greedy_in_graphs,
    trained,
)

Make = Callable[[Backend, str], Generator]
CASES = [(backend, model_type) for backend in BACKENDS for model_type in MODEL_TYPES[backend]]


@pytest.fixture(params=CASES, ids="-".join)
def generator(request: pytest.FixtureRequest, make_generator: Make) -> Generator:
    return make_generator(*request.param)


def test_both_exporters_name_inputs_and_axes_alike(generator: Generator) -> None:
    """But for positions, which some graphs do not need."""
    sequence = ("batch", "sequence")
    cache = {"batch", "past_sequence"}
    for path in generator.graphs.glob("decoder_with_past*.onnx" if generator.is_encoder_decoder else "*.onnx"):
        inputs = {
            str(value.name): tuple(str(dim) for dim in value.shape or ()) for value in load_graph(path).graph.inputs
        }
        assert inputs.pop("input_ids") == sequence
        if generator.is_encoder_decoder:
            assert inputs.pop("encoder_attention_mask") == ("batch", "encoder_sequence")
            own = {name for name in inputs if name.startswith("past_key_values.0.decoder.")}
            others = {name for name in inputs if name.startswith("past_key_values.0.encoder.")}
            assert all({"batch", "encoder_sequence"} <= set(inputs[name]) for name in others)
        else:
            assert inputs.pop("attention_mask") == ("batch", "past_sequence + sequence")
            assert inputs.pop("position_ids", sequence) == sequence
            own, others = {name for name in inputs if name.startswith("past_key_values.")}, set()
        assert {name.rpartition(".")[2] for name in own} == {"key", "value"}
        assert all(cache <= set(inputs[name]) for name in own)
        assert set(inputs) == own | others


@pytest.mark.spec("ONX-4", "ONX-23")
def test_greedy_tokens_are_pytorchs_in_every_placement(generator: Generator, tmp_path: Path) -> None:
    model, prompts = generator.model, generator.prompts
    bare = generated(model, prompts, beams=1)
    for preset, placement in ATTACH_PRESETS.items():
        adapter = trained(model, placement)
        merged = tmp_path / preset
        if generator.is_encoder_decoder:
            report = graft_directory(generator.graphs, adapter, merged)
            assert report.untouched == ()
            assert set(report.graphs) == {path.name for path in generator.graphs.glob("*.onnx")}
            verified = verify(merged, adapter)
        else:
            graft(generator.graphs / "model.onnx", adapter, merged / "model.onnx")
            verified = verify(merged / "model.onnx", adapter)
        assert verified.ok, verified.as_text()
        expected = generated(model, prompts, beams=1)
        assert not (expected.shape == bare.shape and torch.equal(expected, bare))
        ways = (False, True) if (merged / MERGED_DECODER_FILE).exists() else (False,)
        for both_in_one in ways:
            tokens, _ = greedy_in_graphs(GraphDecoder.load(merged, merged=both_in_one), prompts.numpy())
            np.testing.assert_array_equal(tokens, expected.numpy())
        detach(model)


@pytest.mark.spec("ONX-54")
def test_greedy_tokens_on_kernels_are_pytorchs(generator: Generator, tmp_path: Path) -> None:
    """The decoder opens its sessions with kernels for the calls, where there is a compiler."""
    model, prompts, merged = generator.model, generator.prompts, tmp_path / "merged"
    adapter = trained(model)
    expected = generated(model, prompts, beams=1)
    detach(model)
    if generator.is_encoder_decoder:
        graft_directory(generator.graphs, adapter, merged, form=Form.SUBLAYER)
    else:
        graft(generator.graphs / "model.onnx", adapter, merged / "model.onnx", form=Form.SUBLAYER)
    assert all(calls_adapters(path) for path in merged.glob("*.onnx"))
    tokens, _ = greedy_in_graphs(GraphDecoder.load(merged), prompts.numpy())
    np.testing.assert_array_equal(tokens, expected.numpy())


@pytest.mark.spec("ONX-4")
def test_logits_of_every_step_are_pytorchs(generator: Generator, tmp_path: Path) -> None:
    model, prompts = generator.model, generator.prompts
    adapter = trained(model)
    if generator.is_encoder_decoder:
        graft_directory(generator.graphs, adapter, tmp_path / "merged")
    else:
        graft(generator.graphs / "model.onnx", adapter, tmp_path / "merged/model.onnx")
    tokens, steps = greedy_in_graphs(GraphDecoder.load(tmp_path / "merged"), prompts.numpy())
    behind = torch.from_numpy(tokens)
    inputs = (
        {"input_ids": prompts, "decoder_input_ids": behind} if generator.is_encoder_decoder else {"input_ids": behind}
    )
    with torch.no_grad():
        expected = model(**inputs, use_cache=False).logits.numpy()
    detach(model)
    first = tokens.shape[1] - len(steps) - 1
    for index, got in enumerate(steps):
        wanted = expected[:, first + index]
        assert np.abs(got - wanted).max() <= RELATIVE_LIMIT * np.abs(expected).max()


@pytest.mark.skipif(Backend.OPTIMUM not in BACKENDS, reason="optimum's classes run graphs as models")
@pytest.mark.parametrize("model_type", MODEL_TYPES[Backend.OPTIMUM])
def test_greedy_and_beam_search_in_optimum_are_pytorchs(make_generator: Make, model_type: str, tmp_path: Path) -> None:
    optimum = pytest.importorskip("optimum.onnxruntime")
    generator = make_generator(Backend.OPTIMUM, model_type)
    model, prompts = generator.model, generator.prompts
    adapter = trained(model)
    merged = tmp_path / "merged"
    expected = {beams: generated(model, prompts, beams=beams) for beams in (1, 3)}
    detach(model)
    if generator.is_encoder_decoder:
        graft_directory(generator.graphs, adapter, merged)
        loaded = [optimum.ORTModelForSeq2SeqLM.from_pretrained(merged, use_merged=way) for way in (True, False)]
    else:
        graft(generator.graphs / "model.onnx", adapter, merged / "model.onnx")
        for name in ("config.json", "generation_config.json"):
            (merged / name).write_bytes((generator.graphs / name).read_bytes())
        loaded = [optimum.ORTModelForCausalLM.from_pretrained(merged)]
    for graphs in loaded:
        for beams, tokens in expected.items():
            assert torch.equal(generated(graphs, prompts, beams=beams), tokens)
