"""Predictions and where their names come from."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compacter_core.config import AdapterConfig, Head, Projection, Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import config_to_json
from compacter_runtime import Session
from compacter_runtime.labels import predict
from tests.support.served import CLASSES, expected_logits, write_served

_LABELS = ("north", "east", "south")
_CONFIG = AdapterConfig(
    method="compacter",
    name="default",
    hidden_size=8,
    projection=Projection.compacter(),
    sites=(Site(id="encoder.0.ffn", bottleneck_size=4),),
    head=Head(
        task="text-classification", layers=("classifier",), shapes={"classifier.weight": (CLASSES, 8)}, labels=_LABELS
    ),
)
_TEXTS = ["a b c", "d", "e f"]


def _metadata(config: AdapterConfig) -> dict[str, str]:
    return {"compacter.config": config_to_json(config)}


def _classified(directory: Path) -> list[str]:
    predictions = Session(directory).classify(_TEXTS)
    logits = expected_logits(_TEXTS)
    assert [p.index for p in predictions] == logits.argmax(axis=1).tolist()
    return [p.label for p in predictions]


def test_labels_of_the_adapter_win_over_those_of_the_backbone(tmp_path: Path) -> None:
    write_served(tmp_path, metadata=_metadata(_CONFIG), labels=["x", "y", "z"])
    assert _classified(tmp_path) == [_LABELS[i] for i in expected_logits(_TEXTS).argmax(axis=1)]


def test_an_adapter_without_a_head_leaves_the_backbones_labels(tmp_path: Path) -> None:
    write_served(tmp_path, metadata=_metadata(replace(_CONFIG, head=None)), labels=["x", "y", "z"])
    assert _classified(tmp_path) == ["xyz"[i] for i in expected_logits(_TEXTS).argmax(axis=1)]


def test_labels_of_config_json_are_in_numerical_order(tmp_path: Path) -> None:
    write_served(tmp_path)
    names = ", ".join(f'"{i}": "label {i}"' for i in (10, 9, *range(9)))
    (tmp_path / "config.json").write_text(f'{{"id2label": {{{names}}}}}')
    assert Session(tmp_path).labels == tuple(f"label {i}" for i in range(11))


def test_without_labels_the_index_is_the_label(tmp_path: Path) -> None:
    write_served(tmp_path)
    assert _classified(tmp_path) == [str(i) for i in expected_logits(_TEXTS).argmax(axis=1)]


@pytest.mark.parametrize("text", ["{", "[]", '{"id2label": {"a": "x"}}', '{"id2label": 3}'])
def test_a_broken_config_json_is_e704(tmp_path: Path, text: str) -> None:
    write_served(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CompacterError) as caught:
        Session(tmp_path).classify(_TEXTS)
    assert caught.value.code is ErrorCode.E704


def test_another_number_of_labels_than_classes_is_e704(tmp_path: Path) -> None:
    write_served(tmp_path, labels=["x", "y"])
    with pytest.raises(CompacterError) as caught:
        Session(tmp_path).classify(_TEXTS)
    assert caught.value.code is ErrorCode.E704


@given(arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(2, 6)), elements=st.floats(-200, 200, width=32)))
def test_scores_are_the_softmax(logits: np.ndarray) -> None:
    for row, prediction in zip(logits.tolist(), predict(logits, ()), strict=True):
        assert row[prediction.index] == max(row)
        exact = 1 / math.fsum(math.exp(value - max(row)) for value in row)
        # Two roundings of each exponential, one of each addition, one of the division.
        assert abs(prediction.score - exact) <= exact * (len(row) + 5) * 2.0**-53


@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 3, 4)])
def test_outputs_that_are_no_classification_are_e703(shape: tuple[int, ...]) -> None:
    with pytest.raises(CompacterError) as caught:
        predict(np.zeros(shape, np.float32), ())
    assert caught.value.code is ErrorCode.E703


def test_no_texts_no_predictions(tmp_path: Path) -> None:
    write_served(tmp_path, labels=_LABELS)
    assert Session(tmp_path).classify([]) == []
