"""The mean of tokens: it is what its formula says, and rounded evaluations stay within its bound."""

import numpy as np
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from compacter_core.adapter import Array, DType
from compacter_core.reference.bounds import worst_ratio
from compacter_core.reference.pooling import mean_bound, mean_of_tokens
from tests.reference.test_rms_norm import TYPES
from tests.support.arithmetic import Rounded, contract
from tests.support.arrays import round_to
from tests.support.oracle import decimals, distance
from tests.support.strategies import arrays


@st.composite
def masks(draw: st.DrawFn, rows: int, tokens: int) -> Array:
    """[rows, tokens] of 0 and 1, with at least one 1 in every row."""
    mask = np.array(draw(st.lists(st.booleans(), min_size=rows * tokens, max_size=rows * tokens)), np.float64)
    mask = mask.reshape(rows, tokens)
    mask[:, draw(st.integers(0, tokens - 1))] = 1
    return mask


@pytest.mark.spec("NUM-19", "ONX-50")
@pytest.mark.parametrize(("storage", "accumulate"), TYPES, ids=lambda dtype: dtype.value)
@settings(max_examples=60)
@given(data=st.data())
def test_rounded_evaluations_stay_within(storage: DType, accumulate: DType, data: st.DataObject) -> None:
    tokens, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    hidden, noise = (
        data.draw(arrays((2, tokens, width), dtype=storage, max_exponent=1)).astype(np.float64) for _ in range(2)
    )
    mask = data.draw(masks(2, tokens))
    moved = round_to(hidden + data.draw(st.sampled_from([0.0, 2.0**-10])) * noise, storage).astype(np.float64)
    arithmetic = Rounded(storage, accumulate)
    total = arithmetic.store(contract(arithmetic, "tu,tuv->tv", mask, moved))
    count = arithmetic.store(contract(arithmetic, "tu,tu->t", mask, np.ones_like(mask)))
    got = arithmetic.store(total / count[:, None])
    bound = mean_bound(hidden, mask, storage=storage, accumulate=accumulate, input_error=np.abs(moved - hidden))
    ratio = worst_ratio(got, mean_of_tokens(hidden, mask), bound)
    target(ratio)
    assert ratio <= 1


@given(data=st.data())
def test_it_equals_its_formula_in_decimals(data: st.DataObject) -> None:
    tokens = data.draw(st.integers(1, 8))
    hidden, mask = data.draw(arrays((2, tokens, 3))), data.draw(masks(2, tokens))
    exact = [
        [
            sum(decimals(row[counts == 1, place]), start=decimals(np.zeros(1))[0]) / int(counts.sum())
            for place in range(3)
        ]
        for row, counts in zip(hidden, mask, strict=True)
    ]
    bound = mean_bound(hidden, mask, storage=DType.F64, accumulate=DType.F64)
    assert (distance(mean_of_tokens(hidden, mask), exact) <= bound / 2).all()


def test_a_type_that_cannot_count_so_far_has_no_bound() -> None:
    hidden, mask = np.ones((1, 300, 1)), np.ones((1, 300))
    assert np.isinf(mean_bound(hidden, mask, storage=DType.BF16, accumulate=DType.BF16)).all()
