"""The arithmetic of the quality benchmark."""

import numpy as np
import pytest

from benchmarks.quality import gap, mean_and_spread


def test_the_error_of_a_gap_is_that_of_paired_rows() -> None:
    ahead = np.array([[True, True, True, False], [True, True, False, False]])
    behind = np.array([[True, False, False, False], [True, False, False, False]])
    difference, error = gap(ahead, behind)
    # Per row: 0, 1, 1/2, 0.
    assert difference == pytest.approx(0.375)
    assert error == pytest.approx(np.std([0, 1, 0.5, 0], ddof=1) / 2)


def test_the_same_answers_have_no_gap_and_no_error() -> None:
    right = np.array([[True, False, True]])
    assert gap(right, right) == (0.0, 0.0)


def test_a_spread_needs_two_numbers() -> None:
    assert mean_and_spread([0.5]) == "0.5000"
    assert mean_and_spread([0.25, 0.75]) == "0.5000 ± 0.3536"
