"""Whisper, which hears: graphs that optimum exported by itself are grafted, verified, and say what PyTorch says."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoConfig, WhisperForConditionalGeneration

from compacter_exporters.choices import DECODER_FILE, ENCODER_FILE
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.graph_check import RELATIVE_LIMIT
from compacter_exporters.metadata import extract
from compacter_exporters.verify import verify
from tests.exporters_backbone.generators import trained
from tests.support.backbones import BACKBONES, VOCABULARY, randomise

# optimum's sample spectrograms are as long as those of the published checkpoints.
FRAMES = 3000


def tiny_whisper() -> Any:
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    options = {**BACKBONES["whisper"], "max_source_positions": FRAMES // 2, "vocab_size": VOCABULARY, **tokens}
    config = AutoConfig.for_model("whisper", begin_suppress_tokens=None, suppress_tokens=None, **options)
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        model: Any = WhisperForConditionalGeneration(config).eval()
    randomise(model, seed=3)
    return model


def run(path: Path, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    return np.asarray(session.run(None, {name: one.numpy() for name, one in inputs.items() if name in names})[0])


@pytest.mark.spec("ONX-4", "ONX-23")
def test_its_graphs_are_grafted_and_verified(tmp_path: Path) -> None:
    exporter = pytest.importorskip("optimum.exporters.onnx")
    model = tiny_whisper()
    task = "automatic-speech-recognition-with-past"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        exporter.onnx_export_from_model(copy.deepcopy(model), tmp_path / "graphs", task=task, do_validation=False)
    adapter = trained(model)
    report = graft_directory(tmp_path / "graphs", adapter, tmp_path / "merged")
    assert len(report.graphs) == 4
    assert report.untouched == ()
    verified = verify(tmp_path / "merged", adapter)
    assert verified.ok, verified.as_text()
    # The encoder's two layers once, and the decoder's three sublayers in three graphs, of which one has two branches.
    assert len(verified.sites) == 4 + 4 * 3
    assert extract(tmp_path / "merged" / ENCODER_FILE) == extract(tmp_path / "merged" / DECODER_FILE)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, model.config.num_mel_bins, FRAMES, generator=generator)
    tokens = torch.randint(3, VOCABULARY, (2, 5), generator=generator)
    with torch.no_grad():
        states = model.get_encoder()(features).last_hidden_state
        logits = model(input_features=features, decoder_input_ids=tokens, use_cache=False).logits.numpy()
    heard = run(tmp_path / "merged" / ENCODER_FILE, {"input_features": features})
    said = run(tmp_path / "merged" / DECODER_FILE, {"input_ids": tokens, "encoder_hidden_states": states})
    for got, expected in ((heard, states.numpy()), (said, logits)):
        assert np.abs(got - expected).max() <= RELATIVE_LIMIT * np.abs(expected).max()
