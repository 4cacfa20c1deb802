"""Classifiers that the exporter has no code for: they graft and verify."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch import save_pretrained
from compacter_exporters.backbone import export_backbone
from compacter_exporters.choices import Backend
from compacter_exporters.graft import graft
from compacter_exporters.graph_check import RELATIVE_LIMIT
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.verify import verify
from compacter_runtime import Session
from tests.exporters_backbone.backends import BACKENDS
from tests.pytorch.helpers import attach_trained, logits
from tests.support.backbones import BACKBONES, VOCABULARY

# optimum's graphs spell out the GELU in the heads of ELECTRA and DeBERTa.
GRAFTED = ["deberta-v2", "electra", "llama", "xlm-roberta"]


@pytest.fixture
def classifier(request: pytest.FixtureRequest) -> Any:
    """A random model with three classes."""
    options = {"vocab_size": VOCABULARY, "num_labels": 3, "pad_token_id": 0, **BACKBONES[request.param]}
    config = AutoConfig.for_model(request.param, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_config(config).eval()


def write_both(model: Any, folder: Path) -> tuple[Path, Path]:
    """The exported backbone, and an adapter that looks trained."""
    model.save_pretrained(folder / "checkpoint")
    backbone = export_backbone(folder / "checkpoint", folder / "onnx", backend=BACKENDS[0])
    attach_trained(model)
    save_pretrained(model, folder / "adapter")
    return backbone, folder / "adapter"


@pytest.mark.parametrize("classifier", GRAFTED, indirect=True)
def test_graft_and_verify(classifier: Any, tmp_path: Path) -> None:
    backbone, adapter = write_both(classifier, tmp_path)
    merged = tmp_path / "onnx/merged.onnx"
    graft(backbone, adapter, merged)
    assert verify(merged, adapter).ok
    session = Session(merged)
    tokens = np.random.default_rng(0).integers(5, VOCABULARY, (3, 7))
    inputs = {name: np.zeros_like(tokens) for name in session.input_names} | {"attention_mask": np.ones_like(tokens)}
    with torch.no_grad():
        expected = logits(classifier, {"input_ids": torch.from_numpy(tokens)}).numpy()
    got = session.run(inputs | {"input_ids": tokens})["logits"]
    assert np.abs(got - expected).max() <= RELATIVE_LIMIT * np.abs(expected).max()


@pytest.mark.parametrize("classifier", ["deberta-v2"], indirect=True)
def test_a_norm_of_a_constant_table_has_no_rows(classifier: Any, tmp_path: Path) -> None:
    backbone, adapter = write_both(classifier, tmp_path)
    with pytest.raises(CompacterError, match="constant table") as caught:
        graft_bank(backbone, adapter, tmp_path / "onnx/bank.onnx")
    assert caught.value.code is ErrorCode.E605
    assert not (tmp_path / "onnx/bank.onnx").exists()


@pytest.mark.parametrize("classifier", ["bart"], indirect=True)
def test_a_classifier_that_reads_the_end_of_the_text(classifier: Any, tmp_path: Path) -> None:
    classifier.save_pretrained(tmp_path / "checkpoint")
    if BACKENDS[0] is not Backend.OPTIMUM:
        # torch.export does not know how many ends a row has.
        with pytest.raises(CompacterError) as caught:
            export_backbone(tmp_path / "checkpoint", tmp_path / "onnx", backend=BACKENDS[0])
        assert caught.value.code is ErrorCode.E605
        return
    backbone = export_backbone(tmp_path / "checkpoint", tmp_path / "onnx", backend=BACKENDS[0])
    tokens = np.random.default_rng(0).integers(5, VOCABULARY, (3, 7))
    tokens[:, -1] = classifier.config.eos_token_id
    with torch.no_grad():
        expected = classifier(torch.from_numpy(tokens)).logits.numpy()
    got = Session(backbone).run({"input_ids": tokens, "attention_mask": np.ones_like(tokens)})["logits"]
    assert np.abs(got - expected).max() <= RELATIVE_LIMIT * np.abs(expected).max()
