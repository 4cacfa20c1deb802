"""Rows as text to text, and scores of generated texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from compacter_core.pytorch.training.examples import (
    Columns,
    check_some,
    field,
    label_field,
    number_field,
    text_field,
)
from compacter_core.pytorch.training.metrics import (
    OF_CLASSES,
    OF_NUMBERS,
    Classes,
    Metric,
    Numbers,
    Scores,
    exact_match,
    macro_f1,
    normalise,
    with_average,
    word_f1,
)
from compacter_core.pytorch.training.named_tasks import NamedTask
from compacter_core.rows import Row

# T5 was trained on similarities in steps of a fifth.
_STEPS_PER_UNIT: Final = 5
# What a text that is no number counts as: outside STS-B's range.
_NO_NUMBER: Final = -1.0


@dataclass(frozen=True, slots=True)
class TextToText:
    """A text and what shall be generated from it.

    Args:
        text: the input.
        targets: the right answers, at least one.
        question: rows with the same one are right or wrong together.
        place: where it was read.
    """

    text: str
    targets: tuple[str, ...]
    question: str
    place: str

    @classmethod
    def of(cls, row: Row, columns: Columns) -> Self:
        """A row with a text and a target.

        Raises:
            CompacterError: E801.
        """
        return cls(
            text=text_field(row.fields, columns.text, row.place),
            targets=(text_field(row.fields, columns.target, row.place),),
            question=row.place,
            place=row.place,
        )


def format_named(row: Row, named: NamedTask) -> TextToText:
    """A row of a published task as T5 reads it.

    Raises:
        CompacterError: E801.
    """
    fields = row.fields if named.prepare is None else named.prepare(row.fields)
    parts = [f"{name}: {text_field(fields, name, row.place)}" for name in named.fields]
    return TextToText(
        text=" ".join([named.name, *parts]),
        targets=_targets(row, named),
        question=_question(row, named),
        place=row.place,
    )


def round_similarity(number: float) -> str:
    """A similarity to the nearest fifth, as T5 writes it: 2.87 is "2.8"."""
    return f"{round(number * _STEPS_PER_UNIT) / _STEPS_PER_UNIT:.1f}"


def score_named(answers: Sequence[str], rows: Sequence[TextToText], named: NamedTask) -> Scores:
    """The published metrics of generated texts; a text that names no class, or no number, is a wrong answer."""
    return with_average({metric: _score(metric, answers, rows, named) for metric in named.metrics})


def score_texts(answers: Sequence[str], rows: Sequence[TextToText]) -> Scores:
    """Scores of any text to text: F1 of words, and the share of exact matches."""
    accepted, questions = [row.targets for row in rows], [row.question for row in rows]
    return {
        Metric.WORD_F1: word_f1(answers, accepted),
        Metric.EXACT_MATCH: exact_match(answers, accepted, questions),
    }


def _score(metric: Metric, answers: Sequence[str], rows: Sequence[TextToText], named: NamedTask) -> float:
    if metric in (Metric.WORD_F1, Metric.EXACT_MATCH):
        return score_texts(answers, rows)[metric]
    truth = [row.targets[0] for row in rows]
    if metric in OF_NUMBERS:
        return OF_NUMBERS[metric](_numbers(answers), _numbers(truth))
    ours, theirs = _classes(answers, named), _classes(truth, named)
    if metric is Metric.MACRO_F1:
        # Over the task's classes: an answer that is none of them is no class of its own.
        return macro_f1(ours, theirs, range(len(named.labels)))
    return OF_CLASSES[metric](ours, theirs)


def _classes(texts: Sequence[str], named: NamedTask) -> Classes:
    numbers = {normalise(label): number for number, label in enumerate(named.labels)}
    return np.array([numbers.get(normalise(text), len(numbers)) for text in texts])


def _numbers(texts: Sequence[str]) -> Numbers:
    return np.array([_number(text) for text in texts])


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return _NO_NUMBER
    return number if np.isfinite(number) else _NO_NUMBER


def _targets(row: Row, named: NamedTask) -> tuple[str, ...]:
    if named.is_regression:
        return (round_similarity(number_field(row.fields, "label", row.place)),)
    if named.labels:
        return (label_field(row.fields, "label", row.place),)
    answers = field(row.fields, "answers", row.place)
    texts = answers if isinstance(answers, list) else [answers]
    check_some(texts, row.place)
    return tuple(dict.fromkeys(text_field({"answers": text}, "answers", row.place) for text in texts))


def _question(row: Row, named: NamedTask) -> str:
    index = row.fields.get("idx")
    if named.rows_in_question and isinstance(index, dict):
        return "-".join(str(index.get(name)) for name in named.rows_in_question)
    return row.place
