"""Scores of answers against the truth, in NumPy. Where a score is undefined (0/0) it is 0: a run must go on."""

import re
import string
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Classes = NDArray[np.int64]

_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)


class Metric(StrEnum):
    """A score of validation; the value is its word in logs and tables."""

    ACCURACY = "accuracy"
    MACRO_F1 = "macro_f1"
    F1 = "f1"
    MATTHEWS = "matthews"
    PEARSON = "pearson"
    SPEARMAN = "spearman"
    SQUARED_ERROR = "mean_squared_error"
    EXACT_MATCH = "exact_match"
    WORD_F1 = "word_f1"
    ENTITY_F1 = "entity_f1"
    TOKEN_ACCURACY = "token_accuracy"  # noqa: S105 (no password)
    PERPLEXITY = "perplexity"
    AVERAGE = "average"

    @property
    def higher_is_better(self) -> bool:
        """False for errors."""
        return self not in (Metric.SQUARED_ERROR, Metric.PERPLEXITY)


Scores = dict[Metric, float]


def accuracy(answers: Classes, truth: Classes) -> float:
    """Share of right answers."""
    return _ratio(np.count_nonzero(answers == truth), len(truth))


def f1(answers: Classes, truth: Classes, positive: int = 1) -> float:
    """Harmonic mean of precision and recall of one class: 2 TP / (2 TP + FP + FN)."""
    both = np.count_nonzero((answers == positive) & (truth == positive))
    return _ratio(2 * both, np.count_nonzero(answers == positive) + np.count_nonzero(truth == positive))


def macro_f1(answers: Classes, truth: Classes, classes: Sequence[int] | None = None) -> float:
    """Mean of the classes' F1 scores; None for the classes that occur as truth or as an answer."""
    counted = np.union1d(answers, truth) if classes is None else classes
    return float(np.mean([f1(answers, truth, int(one)) for one in counted]))


def matthews(answers: Classes, truth: Classes) -> float:
    """Matthews correlation, for any number of classes: the correlation of the indicator vectors (Gorodkin 2004).

    cov(X, Y) / sqrt(cov(X, X) cov(Y, Y)), where X and Y are one-hot and cov sums over the classes.
    """
    classes = np.union1d(answers, truth)
    x = (answers[:, None] == classes).astype(np.float64)
    y = (truth[:, None] == classes).astype(np.float64)
    return _correlation(x - x.mean(axis=0), y - y.mean(axis=0))


def pearson(answers: Numbers, truth: Numbers) -> float:
    """Linear correlation; 0 if either side is constant."""
    return _correlation(answers - answers.mean(), truth - truth.mean())


def spearman(answers: Numbers, truth: Numbers) -> float:
    """Pearson correlation of the ranks; equal values share the mean of their ranks."""
    return pearson(_ranks(answers), _ranks(truth))


def squared_error(answers: Numbers, truth: Numbers) -> float:
    """Mean of (answer - truth)^2."""
    return float(np.mean(np.square(answers - truth)))


def exact_match(answers: Sequence[str], accepted: Sequence[Sequence[str]], groups: Sequence[Hashable]) -> float:
    """Share of groups whose every answer is one of its accepted texts, up to `normalise`.

    Args:
        answers: one text per row.
        accepted: per row the texts that are right.
        groups: per row its group; rows that stand alone have groups of their own.
    """
    right: dict[Hashable, bool] = {}
    for answer, texts, group in zip(answers, accepted, groups, strict=True):
        matches = normalise(answer) in {normalise(text) for text in texts}
        right[group] = right.get(group, True) and matches
    return _ratio(sum(right.values()), len(right))


def word_f1(answers: Sequence[str], accepted: Sequence[Sequence[str]]) -> float:
    """Mean over rows of the F1 of the bags of words, with the accepted text that gives the most (as SQuAD does)."""
    best = [max(_bag_f1(answer, text) for text in texts) for answer, texts in zip(answers, accepted, strict=True)]
    return float(np.mean(best))


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, no English articles, single spaces (as SQuAD does)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def entity_f1(answers: Sequence[Sequence[str]], truth: Sequence[Sequence[str]]) -> float:
    """F1 of entities over all rows; an entity counts if its extent and its kind are right.

    Args:
        answers: tags per row: `O`, or a kind, which may be marked as `B-kind` or `I-kind`.
        truth: the same.
    """
    found = {(row, *span) for row, tags in enumerate(answers) for span in spans(tags)}
    there = {(row, *span) for row, tags in enumerate(truth) for span in spans(tags)}
    return _ratio(2 * len(found & there), len(found) + len(there))


def spans(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Entities as (first, past the last, kind). `B-` begins one; so does any other change of kind."""
    entities: list[tuple[int, int, str]] = []
    begin, current = 0, ""
    for index, tag in enumerate([*tags, "O"]):
        kind = "" if tag == "O" else tag.removeprefix("B-").removeprefix("I-")
        if kind != current or tag.startswith("B-"):
            if current:
                entities.append((begin, index, current))
            begin, current = index, kind
    return entities


def with_average(scores: Scores) -> Scores:
    """The scores and, if there are several, their mean: what GLUE and the paper report for a task."""
    return scores if len(scores) == 1 else scores | {Metric.AVERAGE: float(np.mean(list(scores.values())))}


OF_CLASSES: Final[Mapping[Metric, Callable[[Classes, Classes], float]]] = MappingProxyType(
    {Metric.ACCURACY: accuracy, Metric.F1: f1, Metric.MATTHEWS: matthews, Metric.MACRO_F1: macro_f1}
)
"""Scores of class numbers."""

OF_NUMBERS: Final[Mapping[Metric, Callable[[Numbers, Numbers], float]]] = MappingProxyType(
    {Metric.PEARSON: pearson, Metric.SPEARMAN: spearman, Metric.SQUARED_ERROR: squared_error}
)
"""Scores of numbers."""


def _ratio(part: float | np.integer[Any], whole: float | np.integer[Any]) -> float:
    return float(part) / float(whole) if whole else 0.0


def _correlation(x: Numbers, y: Numbers) -> float:
    """Of centred arrays. Each is scaled by its largest element first, so that no square under- or overflows."""
    scale_x, scale_y = np.abs(x).max(), np.abs(y).max()
    if not (scale_x and scale_y):
        return 0.0
    x, y = x / scale_x, y / scale_y
    return float(np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y)))


def _ranks(values: Numbers) -> Numbers:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Any = last - (counts - 1) / 2
    return np.asarray(mean[inverse], dtype=np.float64)


def _bag_f1(answer: str, text: str) -> float:
    ours, theirs = Counter(normalise(answer).split()), Counter(normalise(text).split())
    if not ours and not theirs:
        return 1.0
    return _ratio(2 * (ours & theirs).total(), ours.total() + theirs.total())
