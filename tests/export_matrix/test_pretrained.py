"""The row of a real backbone, with a tiny one in its place."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from compacter_core.adapter import Adapter
from compacter_core.pytorch import detach
from compacter_core.vocabulary import Activation
from compacter_exporters.graph_check import RELATIVE_LIMIT
from examples.quickstart.stages import POOLING
from tests.export_matrix import pretrained
from tests.export_matrix.__main__ import main
from tests.export_matrix.backbones import Backbone
from tests.export_matrix.cells import Cell
from tests.export_matrix.linkages import BACKBONE
from tests.export_matrix.measuring import measure
from tests.exporters_backbone.backends import BACKENDS
from tests.pytorch.helpers import attach_trained
from tests.training.conftest import READ, save_tokenizer
from tests.training.toy import WORDS

LABELS = ("one", "two", "three")


def tiny_checkpoint(folder: Path) -> Path:
    """A BERT without a head, and a tokenizer."""
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    save_tokenizer(folder, READ, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", inputs)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=len(READ), initializer_range=0.3, **sizes)).save_pretrained(folder)
    return folder


def tiny_adapter(checkpoint: Path) -> Adapter:
    """An adapter with a head that reads the mean."""
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=len(LABELS))
    model.config.id2label = dict(enumerate(LABELS))
    adapter = attach_trained(model, pooling=POOLING).to_adapter()
    detach(model)
    return adapter


def rows(path: Path, labels: list[str]) -> Path:
    """A file of as many texts of one to five words, with these labels."""
    texts = [" ".join(WORDS[i % 7 : i % 7 + 1 + i % 5]) for i in range(len(labels))]
    lines = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True)]
    path.write_text("\n".join(lines))
    return path


def test_answers_are_compared_with_the_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that are PyTorch's answers in three of four rows."""
    checkpoint = tiny_checkpoint(tmp_path / "tiny")
    adapters = {Activation.GELU_NEW: tiny_adapter(checkpoint)}

    def backbone(labels: list[str], name: str) -> Backbone:
        (tmp_path / name).mkdir()
        file = rows(tmp_path / f"{name}.jsonl", labels)
        return pretrained.labelled_backbone(checkpoint, adapters, file, tmp_path / name)

    answers = backbone(["one"] * 24, "first").computed[Activation.GELU_NEW].logits.argmax(-1)
    assert len(set(answers)) > 1
    labels = [LABELS[(answer + (row % 4 == 0)) % len(LABELS)] for row, answer in enumerate(answers)]
    monkeypatch.setattr(pretrained, "make_pretrained", lambda folder: backbone(labels, "second"))
    cells = Cell.all([pretrained.NAME], [str(BACKENDS[0])], ["fp32"], [BACKBONE, "merged fold"])
    bare, merged = (outcome for _, outcome in measure(cells))
    assert (bare.why, merged.why) == (None, None)
    assert bare.accuracy is None
    assert bare.agreement == merged.agreement == 1.0
    assert merged.accuracy == merged.torch_accuracy == 0.75
    assert merged.difference is not None
    assert merged.difference <= RELATIVE_LIMIT
    assert merged.within


def test_the_row_is_left_out_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--only", f"backbone={pretrained.NAME}"]) == 0
    captured = capsys.readouterr()
    assert f"left out: {pretrained.NAME}" in captured.err
    assert "0 cells." in captured.out
    assert not list(tmp_path.iterdir())
