"""Each kind of task, from a file to an adapter: it learns, and the saved adapter gives the scores of the log."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from compacter_core.format.reader import load_adapter
from compacter_core.pytorch import from_pretrained
from compacter_core.pytorch.training import (
    AdapterRecipe,
    Columns,
    FullRecipe,
    Metric,
    Schedule,
    Task,
    TrainResult,
    TrainSettings,
    train,
)
from tests.training.toy import CLASSES

Data = tuple[str, str]


def settings(backbone: Path, data: Data, task: Task, *, epochs: int = 3, rate: float = 2e-2) -> TrainSettings:
    return TrainSettings(
        backbone=str(backbone),
        train=data[0],
        validation=data[1],
        columns=Columns(label="number" if task is Task.REGRESSION else "label"),
        task=task,
        max_target_length=4,
        recipe=AdapterRecipe(learning_rate=rate, reduction_factor=4),
        schedule=Schedule(epochs=epochs, batch_size=8),
        progress=False,
    )


def rows_of(data: Data) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(data[1]).read_text().splitlines()]


def loaded(auto_class: Any, backbone: Path, result: TrainResult, **options: Any) -> tuple[Any, Any]:
    """The saved adapter on a backbone loaded afresh, and the tokenizer."""
    model = auto_class.from_pretrained(backbone, **options)
    from_pretrained(model.eval(), result.output)
    return model, AutoTokenizer.from_pretrained(backbone)


@pytest.mark.parametrize("kind", ["t5_backbone", "untied_t5_backbone"])
def test_text_to_text_is_generated(kind: str, data: Data, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    backbone = request.getfixturevalue(kind)
    result = train(settings(backbone, data, Task.SEQ2SEQ, epochs=4), tmp_path / "out")
    losses = [one.loss for one in result.history.evaluations]
    assert losses[-1] < losses[0] / 2
    assert result.history.goal is Metric.WORD_F1
    assert result.best.scores["exact_match"] >= 0.6
    assert result.counts.head == 0
    model, tokenizer = loaded(AutoModelForSeq2SeqLM, backbone, result)
    rows = rows_of(data)
    batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    answers = tokenizer.batch_decode(model.generate(**batch, max_new_tokens=4), skip_special_tokens=True)
    right = np.mean([answer == row["target"] for answer, row in zip(answers, rows, strict=True)])
    assert right == pytest.approx(result.best.scores["exact_match"])
    assert set(answers) <= set(CLASSES)


@pytest.mark.parametrize("kind", ["t5_backbone", "untied_t5_backbone"])
def test_a_language_models_output_matrix_stays_the_backbones(
    kind: str, data: Data, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    backbone = request.getfixturevalue(kind)
    result = train(settings(backbone, data, Task.SEQ2SEQ, epochs=1), tmp_path / "out")
    adapter = load_adapter(result.output)
    assert adapter.config.head is None
    assert not [name for name in adapter.tensors if name.startswith("head.") or "lm_head" in name]
    model, _ = loaded(AutoModelForSeq2SeqLM, backbone, result)
    before = load_file(backbone / "model.safetensors")
    assert ("lm_head.weight" in before) is (kind == "untied_t5_backbone")
    assert (model.lm_head.weight is model.shared.weight) is (kind == "t5_backbone")
    norms = {f"{one.name}" for one in adapter.config.overrides}
    assert norms == {name for name in before if "layer_norm" in name}
    for name, tensor in before.items():
        if name not in norms:
            assert torch.equal(model.get_parameter(name), tensor), name


def test_numbers_are_learnt(backbone: Path, data: Data, tmp_path: Path) -> None:
    result = train(settings(backbone, data, Task.REGRESSION, epochs=4, rate=1e-2), tmp_path / "out")
    truth = np.array([row["number"] for row in rows_of(data)])
    assert result.best.scores["mean_squared_error"] < 0.5 * truth.var()
    assert result.best.scores["mean_squared_error"] == min(
        one.scores["mean_squared_error"] for one in result.history.evaluations
    )
    assert result.best.scores["pearson"] > 0.6
    model, tokenizer = loaded(AutoModelForSequenceClassification, backbone, result, num_labels=1)
    with torch.no_grad():
        batch = tokenizer([row["text"] for row in rows_of(data)], padding=True, return_tensors="pt")
        answers = model(**batch).logits[:, 0].numpy()
    error = float(np.mean((answers - truth) ** 2))
    # The Trainer's batches are padded otherwise, so that sums have another order.
    assert error == pytest.approx(result.best.scores["mean_squared_error"], rel=1e-4)


def test_words_are_tagged(backbone: Path, data: Data, tmp_path: Path) -> None:
    result = train(settings(backbone, data, Task.TOKEN_CLASSIFICATION, epochs=5, rate=5e-2), tmp_path / "out")
    assert result.labels == tuple(sorted(CLASSES))
    assert result.best.scores["accuracy"] >= 0.7
    head = load_adapter(result.output).config.head
    assert head is not None
    assert (head.task, head.labels) == ("token-classification", result.labels)
    model, tokenizer = loaded(AutoModelForTokenClassification, backbone, result, num_labels=3)
    right = []
    for row in rows_of(data):
        batch = tokenizer(row["tokens"], is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            answers = model(**batch).logits[0, 1:-1].argmax(-1).tolist()
        right += [model.config.id2label[a] == label for a, label in zip(answers, row["labels"], strict=True)]
    assert np.mean(right) == pytest.approx(result.best.scores["accuracy"])


def test_a_language_model_learns_what_follows_a_prompt(gpt2_backbone: Path, data: Data, tmp_path: Path) -> None:
    result = train(settings(gpt2_backbone, data, Task.CAUSAL_LM, epochs=5, rate=3e-2), tmp_path / "out")
    perplexities = [one.scores["perplexity"] for one in result.history.evaluations]
    assert result.best.scores["perplexity"] == min(perplexities) < 0.7 * perplexities[0]
    model, tokenizer = loaded(AutoModelForCausalLM, gpt2_backbone, result)
    losses, tokens = 0.0, 0
    for row in rows_of(data):
        batch = tokenizer(f"{row['text']} {row['target']} [SEP]", return_tensors="pt")
        with torch.no_grad():
            logs = model(**batch).logits[0].log_softmax(-1)
        ids = batch["input_ids"][0]
        losses -= sum(float(logs[-3 + i, ids[-2 + i]]) for i in range(2))
        tokens += 2
    # Padded batches sum in another order.
    assert np.exp(losses / tokens) == pytest.approx(result.best.scores["perplexity"], rel=1e-4)


def test_a_language_model_learns_whole_texts(gpt2_backbone: Path, data: Data, tmp_path: Path) -> None:
    plain = replace(settings(gpt2_backbone, data, Task.CAUSAL_LM, epochs=2), columns=Columns(target="no such"))
    result = train(plain, tmp_path / "out")
    first, last = (one.scores["perplexity"] for one in result.history.evaluations)
    assert last < first


def test_full_fine_tuning_of_a_language_model_has_no_head(t5_backbone: Path, data: Data, tmp_path: Path) -> None:
    whole = replace(settings(t5_backbone, data, Task.SEQ2SEQ, epochs=1), recipe=FullRecipe(learning_rate=1e-3))
    counts = train(whole, tmp_path / "out").counts
    assert (counts.head, counts.share) == (0, 1.0)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    assert counts.backbone == sum(parameter.numel() for parameter in model.parameters())


def test_the_logs_are_event_files(t5_backbone: Path, data: Data, tmp_path: Path) -> None:
    logged = replace(settings(t5_backbone, data, Task.SEQ2SEQ, epochs=2), logging_dir=str(tmp_path / "logs"))
    result = train(logged, tmp_path / "out")
    (path,) = (tmp_path / "logs").iterdir()
    points = scalars(path.read_bytes())
    losses = {step: value for tag, step, value in points if tag == "train/loss"}
    assert losses == pytest.approx({point.step: point.loss for point in result.history.losses})
    matches = {step: value for tag, step, value in points if tag == "eval/exact_match"}
    assert matches == pytest.approx({one.step: one.scores["exact_match"] for one in result.history.evaluations})


def scalars(content: bytes) -> list[tuple[str, int, float]]:
    """Tag, step and value of every scalar of an event file: records of length, checksum, bytes, checksum."""
    found, at = [], 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        event = Event.FromString(content[at + 12 : at + 12 + length])
        found += [
            (value.tag, event.step, value.simple_value)
            for value in event.summary.value
            if value.HasField("simple_value")
        ]
        at += 16 + length
    return found
