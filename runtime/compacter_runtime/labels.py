"""Class names of a model, and predictions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import config_from_json

CONFIG_METADATA = "compacter.config"
CONFIG_FILE = "config.json"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The most probable class of one input.

    Args:
        label: its name, or its index as text if the model names no classes.
        score: its probability.
        index: its position in the output.
    """

    label: str
    score: float
    index: int


def read_labels(metadata: Mapping[str, str], directory: Path) -> tuple[str, ...]:
    """Class names by index: the grafted adapter's, else those of `config.json` beside the model, else none.

    A backbone's own names are not used for a grafted head: they name the classes of another head.

    Raises:
        CompacterError: E2xx if the embedded configuration is broken, E704 if config.json is.
    """
    if CONFIG_METADATA in metadata:
        head = config_from_json(metadata[CONFIG_METADATA]).head
        if head is not None:
            return head.labels
    path = directory / CONFIG_FILE
    if not path.is_file():
        return ()
    try:
        names = json.loads(path.read_text(encoding="utf-8")).get("id2label", {})
        return tuple(str(names[key]) for key in sorted(names, key=int))
    except (ValueError, AttributeError, TypeError) as error:
        raise CompacterError(ErrorCode.E704, "config.json beside the model cannot be read", value=str(path)) from error


def predict_rows(logits: NDArray[Any], labels: Sequence[tuple[str, ...]]) -> list[Prediction]:
    """The most probable class of each row, whose classes have names of their own.

    A row whose names are fewer than the columns of `logits` has as many classes as names; the other columns are minus
    infinity.

    Raises:
        CompacterError: E703 and E704, as `predict`.
    """
    predictions: dict[int, Prediction] = {}
    for names in dict.fromkeys(labels):
        rows = [row for row, own in enumerate(labels) if own == names]
        part = logits[rows]
        if names and part.ndim > 1 and np.isneginf(part[:, len(names) :]).all():
            part = part[:, : len(names)]
        predictions |= dict(zip(rows, predict(part, names), strict=True))
    return [predictions[row] for row in range(len(labels))]


def predict(logits: NDArray[Any], labels: tuple[str, ...]) -> list[Prediction]:
    """The most probable class of each row of `logits` [batch, classes]; scores are its softmax, in float64.

    Raises:
        CompacterError: E703 if these are no logits of a classifier, E704 if the labels are those of another one.
    """
    batch_and_classes = 2
    if logits.ndim != batch_and_classes or logits.shape[1] == 1:
        raise CompacterError(
            ErrorCode.E703,
            "the model's output is no classification",
            value=f"shape {logits.shape}",
            expected="[batch, classes] with at least two classes",
            remedy="Use run() for its values.",
        )
    if labels and len(labels) != logits.shape[1]:
        raise CompacterError(
            ErrorCode.E704,
            "the model has another number of classes than of labels",
            value=logits.shape[1],
            expected=str(len(labels)),
        )
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    return [
        Prediction(label=labels[index] if labels else str(index), score=float(row[index]), index=int(index))
        for index, row in zip(logits.argmax(axis=1), probabilities, strict=True)
    ]
