"""Scores against their definitions: fractions, confusion counts, and NumPy's own correlation."""

from fractions import Fraction
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.pytorch.training import metrics
from compacter_core.pytorch.training.metrics import Metric

Pairs = list[tuple[int, int]]

classes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)
numbers = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=30)
# Sums of at most 30 products of numbers near one, a quotient and a root: some dozens of roundings.
CLOSE = 1e-12


def split(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    return np.array([a for a, _ in pairs]), np.array([t for _, t in pairs])


def f1_of(pairs: Pairs, positive: int) -> Fraction:
    """From precision and recall."""
    hits = sum(a == t == positive for a, t in pairs)
    if hits == 0:
        return Fraction(0)
    precision = Fraction(hits, sum(a == positive for a, _ in pairs))
    recall = Fraction(hits, sum(t == positive for _, t in pairs))
    return 2 * precision * recall / (precision + recall)


@given(classes)
def test_accuracy_and_f1_are_their_fractions(pairs: Pairs) -> None:
    answers, truth = split(pairs)
    assert metrics.accuracy(answers, truth) == float(Fraction(sum(a == t for a, t in pairs), len(pairs)))
    assert metrics.f1(answers, truth) == pytest.approx(float(f1_of(pairs, 1)), abs=CLOSE)
    seen = {one for pair in pairs for one in pair}
    macro = sum((f1_of(pairs, one) for one in seen), Fraction(0)) / len(seen)
    assert metrics.macro_f1(answers, truth) == pytest.approx(float(macro), abs=CLOSE)
    fixed = sum((f1_of(pairs, one) for one in range(3)), Fraction(0)) / 3
    assert metrics.macro_f1(answers, truth, range(3)) == pytest.approx(float(fixed), abs=CLOSE)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_matthews_of_two_classes_is_its_textbook_form(pairs: Pairs) -> None:
    count = {(a, t): sum(pair == (a, t) for pair in pairs) for a in (0, 1) for t in (0, 1)}
    hits, rejected, false, missed = count[1, 1], count[0, 0], count[1, 0], count[0, 1]
    below = (hits + false) * (hits + missed) * (rejected + false) * (rejected + missed)
    expected = (hits * rejected - false * missed) / sqrt(below) if below else 0.0
    assert metrics.matthews(*split(pairs)) == pytest.approx(expected, abs=CLOSE)


@given(classes)
def test_matthews_of_many_classes_is_the_formula_of_the_confusion_matrix(pairs: Pairs) -> None:
    confusion = np.zeros((4, 4), dtype=np.int64)
    for answer, truth in pairs:
        confusion[truth, answer] += 1
    total, right = int(confusion.sum()), int(np.trace(confusion))
    there, given_ = confusion.sum(axis=1), confusion.sum(axis=0)
    below = (total**2 - int(given_ @ given_)) * (total**2 - int(there @ there))
    expected = (right * total - int(there @ given_)) / sqrt(below) if below else 0.0
    assert metrics.matthews(*split(pairs)) == pytest.approx(expected, abs=CLOSE)


@given(numbers)
def test_correlations_are_numpys_and_ranks_are_counted(pairs: Pairs) -> None:
    answers, truth = (np.asarray(one, dtype=np.float64) for one in split(pairs))
    assert metrics.pearson(answers, truth) == pytest.approx(correlation(answers, truth), abs=CLOSE)
    ranked = correlation(ranks(answers), ranks(truth))
    assert metrics.spearman(answers, truth) == pytest.approx(ranked, abs=CLOSE)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    constant = len(set(x)) == 1 or len(set(y)) == 1
    return 0.0 if constant else float(np.corrcoef(np.stack([x, y]))[0, 1])


def ranks(x: np.ndarray) -> np.ndarray:
    return np.array([np.sum(x < value) + (np.sum(x == value) + 1) / 2 for value in x])


@given(numbers, st.sampled_from([1e-160, 1e160]))
def test_correlations_do_not_depend_on_the_scale(pairs: Pairs, scale: float) -> None:
    answers, truth = (np.asarray(one, dtype=np.float64) for one in split(pairs))
    assert metrics.pearson(scale * answers, truth) == pytest.approx(metrics.pearson(answers, truth), abs=CLOSE)


def test_exact_match_counts_groups_and_ignores_case_articles_and_punctuation() -> None:
    answers, accepted = ["The  cat.", "dog", "cow"], [("a Cat", "x"), ("dog",), ("pig",)]
    assert metrics.exact_match(answers, accepted, ["1", "2", "3"]) == pytest.approx(2 / 3)
    assert metrics.exact_match(answers, accepted, ["1", "2", "2"]) == 0.5
    assert metrics.exact_match(answers[::-1], accepted[::-1], ["2", "2", "1"]) == 0.5


def test_word_f1_takes_the_best_accepted_text() -> None:
    # Two of three words in common with two: precision 2/3, recall 1.
    assert metrics.word_f1(["red green blue"], [("fig", "green blue")]) == pytest.approx(4 / 5)
    assert metrics.word_f1(["red red"], [("red",)]) == pytest.approx(2 / 3)
    assert metrics.word_f1(["", "x"], [("the",), ("y",)]) == 0.5


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O", []),
        ("B-x I-x O B-x", [(0, 2, "x"), (3, 4, "x")]),
        ("B-x B-x", [(0, 1, "x"), (1, 2, "x")]),
        ("I-x I-y I-y", [(0, 1, "x"), (1, 3, "y")]),
        ("x x y", [(0, 2, "x"), (2, 3, "y")]),
        ("O B-a-b I-a-b", [(1, 3, "a-b")]),
    ],
)
def test_entities(tags: str, spans: list[tuple[int, int, str]]) -> None:
    assert metrics.spans(tags.split()) == spans


def test_entity_f1_wants_extent_and_kind_in_the_right_row() -> None:
    truth = [["B-x", "I-x", "O"], ["B-y"]]
    assert metrics.entity_f1(truth, truth) == 1.0
    assert metrics.entity_f1([["B-x", "O", "O"], ["B-y"]], truth) == 0.5
    assert metrics.entity_f1([["B-y", "I-y", "O"], ["B-x"]], truth) == 0.0


def test_the_average_is_of_several_scores() -> None:
    assert metrics.with_average({Metric.F1: 0.5}) == {Metric.F1: 0.5}
    assert metrics.with_average({Metric.F1: 0.5, Metric.ACCURACY: 1.0})[Metric.AVERAGE] == 0.75


def test_errors_are_the_lower_the_better() -> None:
    assert {one for one in Metric if not one.higher_is_better} == {Metric.PERPLEXITY, Metric.SQUARED_ERROR}
