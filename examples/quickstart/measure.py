"""Measurements on the finished models: answers, agreement, latency."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from compacter_core.format.reader import load_adapter
from compacter_core.pytorch import from_pretrained
from compacter_core.pytorch.pooling import pool_before_head
from compacter_core.pytorch.training import Columns, read_file
from compacter_core.vocabulary import Pooling
from compacter_runtime.session import Session

Array = NDArray[Any]

_MIN_ROUNDS: Final = 5


class TorchClassifier:
    """A classifier in PyTorch, from text to logits: a backbone with an adapter attached, or a fine-tuned model.

    Args:
        model: directory of the backbone, or of the fine-tuned model.
        adapter: directory of the adapter, if there is one.
        pooling: what the head of a fine-tuned model reads; an adapter says it itself.
    """

    def __init__(self, model: Path, adapter: Path | None = None, pooling: Pooling | None = None) -> None:
        head = None if adapter is None else load_adapter(adapter).config.head
        options = {} if head is None else {"num_labels": len(head.labels)}
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._model = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32, **options).eval()
        if adapter is None:
            pool_before_head(self._model, pooling)
        else:
            from_pretrained(self._model, adapter)

    def right(self, file: Path) -> Array:
        """For each row of a file of labelled texts, whether the answer is right."""
        rows = read_file(file, Columns())
        answers = self.logits([row.text for row in rows], progress=True).argmax(-1)
        names = self._model.config.id2label
        return np.array([names[int(answer)] == row.label for answer, row in zip(answers, rows, strict=True)])

    @torch.inference_mode()
    def logits(self, texts: Sequence[str], *, batch_size: int = 64, progress: bool = False) -> Array:
        """Logits in the order of the texts; batches hold texts of similar length."""
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        answers: list[Array] = [np.empty(0)] * len(texts)
        for start in tqdm(range(0, len(texts), batch_size), "PyTorch", disable=not progress):
            positions = order[start : start + batch_size]
            rows = [texts[index] for index in positions]
            batch = self._tokenizer(rows, padding=True, truncation=True, return_tensors="pt")
            for index, row in zip(positions, self._model(**batch).logits.numpy(), strict=True):
                answers[index] = row
        return np.stack(answers)


@dataclass(frozen=True, slots=True)
class Agreement:
    """PyTorch against ONNX Runtime on the same texts.

    Args:
        rows: number of texts.
        torch_accuracy: share of right answers in PyTorch.
        runtime_accuracy: share of right answers in ONNX Runtime.
        different: number of texts with another answer.
        difference: largest difference of a logit, relative to the largest logit.
    """

    rows: int
    torch_accuracy: float
    runtime_accuracy: float
    different: int
    difference: float


def compare(classifier: TorchClassifier, session: Session, file: Path) -> Agreement:
    """Answers of both on a file of labelled texts."""
    rows = read_file(file, Columns())
    texts = [row.text for row in rows]
    truth = np.array([session.labels.index(row.label) for row in rows])
    ours = classifier.logits(texts, progress=True)
    theirs = session.run(texts, progress=True)["logits"]
    return Agreement(
        rows=len(rows),
        torch_accuracy=float(np.mean(ours.argmax(-1) == truth)),
        runtime_accuracy=float(np.mean(theirs.argmax(-1) == truth)),
        different=int(np.sum(ours.argmax(-1) != theirs.argmax(-1))),
        difference=float(np.max(np.abs(ours - theirs)) / np.max(np.abs(ours))),
    )


def latency(calls: Mapping[str, Callable[[], object]], *, seconds: float) -> dict[str, float]:
    """Median milliseconds of each call, from as many rounds as fit into `seconds`, but at least five.

    The calls take turns, so that a busy moment of the machine hits all of them alike.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or any(len(measured) < _MIN_ROUNDS for measured in times.values()):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    return {name: 1000 * statistics.median(measured) for name, measured in times.items()}
