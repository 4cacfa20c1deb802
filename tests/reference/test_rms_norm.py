"""The root-mean-square norm: it is what its formula says, and rounded evaluations stay within its bound."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from compacter_core.adapter import Array, DType
from compacter_core.reference.bounds import worst_ratio
from compacter_core.reference.rms_norm import rms_norm, rms_norm_bound
from tests.support.arithmetic import Rounded, contract
from tests.support.arrays import round_to
from tests.support.oracle import PRECISION, decimals, distance
from tests.support.strategies import arrays

EPSILON = 2.0**-17
TYPES = [
    (DType.F64, DType.F64),
    (DType.F32, DType.F32),
    (DType.F16, DType.F32),
    (DType.F16, DType.F16),
    (DType.BF16, DType.F32),
    (DType.BF16, DType.BF16),
]


def emulated(arithmetic: Rounded, x: Array, gain: Array, eps: float, *, divides: bool) -> Array:
    """Every step rounded; the root divides, or its reciprocal multiplies."""
    store, d = arithmetic.store, x.shape[-1]
    square = store(contract(arithmetic, "tu,tu->t", x, x) / d)[:, None]
    root = store(np.sqrt(store(square + store(np.asarray(eps)))))
    return store(store(x / root if divides else x * store(1 / root)) * gain)


@pytest.mark.spec("NUM-17")
@pytest.mark.parametrize(("storage", "accumulate"), TYPES, ids=lambda dtype: dtype.value)
@pytest.mark.parametrize("divides", [True, False])
@settings(max_examples=40)
@given(data=st.data())
def test_rounded_evaluations_stay_within(storage: DType, accumulate: DType, divides: bool, data: st.DataObject) -> None:
    d = data.draw(st.integers(1, 12))
    x, gain, noise = (
        data.draw(arrays(shape, dtype=storage, max_exponent=1)).astype(np.float64) for shape in ((3, d), (d,), (3, d))
    )
    eps = data.draw(st.sampled_from([1e-12, 1e-5, 0.1]))
    moved = round_to(x + data.draw(st.sampled_from([0.0, 2.0**-10])) * noise, storage).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        got = emulated(Rounded(storage, accumulate), moved, gain, eps, divides=divides)
    bound = rms_norm_bound(x, gain, eps, storage=storage, accumulate=accumulate, input_error=np.abs(moved - x))
    certain = np.isfinite(bound)
    ratio = worst_ratio(got[certain], rms_norm(x, gain, eps)[certain], bound[certain])
    target(ratio)
    assert ratio <= 1


@given(data=st.data())
def test_it_equals_its_formula_in_decimals(data: st.DataObject) -> None:
    d = data.draw(st.integers(1, 8))
    x, gain = (data.draw(arrays(shape)) for shape in ((2, d), (d,)))
    with localcontext(PRECISION):
        exact = []
        for row in decimals(x):
            root = (sum(value * value for value in row) / len(row) + Decimal(EPSILON)).sqrt()
            exact.append([value / root * a for value, a in zip(row, decimals(gain), strict=True)])
    bound = rms_norm_bound(x, gain, EPSILON, storage=DType.F64, accumulate=DType.F64)
    assert (distance(rms_norm(x, gain, EPSILON), exact) <= bound / 2).all()
