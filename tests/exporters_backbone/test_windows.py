"""Decoders that see a window of tokens: their graphs keep all tokens, and the mask limits what is seen."""

from pathlib import Path

import pytest
import torch

from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.verify import verify
from compacter_runtime.decoder import GraphDecoder
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.generators import exported, generated, greedy_in_graphs, trained
from tests.support.backbones import BACKBONES


@pytest.mark.spec("ONX-4", "ONX-23")
def test_a_window_shorter_than_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "mistral", BACKBONES["mistral"] | {"sliding_window": 3})
    generator = exported(BACKENDS[0], "mistral", tmp_path)
    graph = load_graph(generator.graphs / "model.onnx").graph
    others = {str(value.name) for value in graph.inputs} - {"input_ids", "attention_mask", "position_ids"}
    assert others == {f"past_key_values.{layer}.{part}" for layer in (0, 1) for part in ("key", "value")}
    adapter = trained(generator.model)
    graft(generator.graphs / "model.onnx", adapter, tmp_path / "merged/model.onnx")
    report = verify(tmp_path / "merged/model.onnx", adapter)
    assert report.ok, report.as_text()
    expected = generated(generator.model, generator.prompts, beams=1)
    tokens, _ = greedy_in_graphs(GraphDecoder.load(tmp_path / "merged"), generator.prompts.numpy())
    assert tokens.tolist() == expected.tolist()
    # With a window as long as everything, other tokens are written.
    generator.model.config.sliding_window = 64
    assert not torch.equal(generated(generator.model, generator.prompts, beams=1), expected)
