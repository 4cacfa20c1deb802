"""The bounds made for the vectors: rounding up, and that evaluations in every type stay below them."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_core.adapter import Array, DType
from compacter_core.config import Attach
from compacter_core.conformance.generate.bounds import (
    PAIRS,
    Pair,
    gradient_bounds,
    named_gradients,
    rounded_up,
)
from compacter_core.conformance.generate.configurations import Choice, Rule
from compacter_core.conformance.generate.gradient import rounded as drawn_gradient
from compacter_core.conformance.generate.questions import Sublayer
from compacter_core.conformance.generate.source import Source
from compacter_core.conformance.generate.sublayer import PLACEMENTS
from compacter_core.conformance.generate.sublayer import rounded as drawn_sublayer
from compacter_core.reference.rounding import float64_site
from compacter_core.vocabulary import Input, ProjectionKind, Skip
from tests.support.arithmetic import Arithmetic, Drifting, Rounded
from tests.support.emulation import EmulatedAdapter, Order

COMPACTER = Choice(kind=ProjectionKind.LPHM, rule=Rule.SHARED)
SHARED = Choice(kind=ProjectionKind.PHM, rule=Rule.SHARED_FACTORED, shared_W=True)

TYPES = pytest.mark.parametrize("pair", PAIRS)
arithmetics = st.sampled_from([Rounded, Drifting])
orders = st.sampled_from(Order)
names = st.text(alphabet="abcdefgh", min_size=1, max_size=8)

positive = st.floats(min_value=0.0, max_value=2.0**1000, allow_subnormal=False)


@given(bound=positive)
def test_bounds_are_rounded_up_to_ten_bits(bound: float) -> None:
    (up,) = rounded_up(np.array([bound]))
    assert bound <= up <= bound * (1 + 2.0**-9)
    fraction = np.frexp(up)[0] * 2**10
    assert fraction == np.rint(fraction)


def test_a_bound_that_does_not_end_stays_infinite() -> None:
    np.testing.assert_array_equal(rounded_up(np.array([0.0, np.inf])), [0.0, np.inf])


@pytest.mark.spec("NUM-16", "CNF-9")
@TYPES
@pytest.mark.parametrize("exponent", [0, -9])
@settings(max_examples=8)
@given(name=names, arithmetic=arithmetics, order=orders)
def test_sublayers_stay_below_their_bound(
    pair: Pair, exponent: int, name: str, arithmetic: Callable[[DType, DType], Arithmetic], order: Order
) -> None:
    """With an adapter of small tensors the sums and the norm round most, else the adapter itself."""
    rounding = arithmetic(*pair)
    for attach, order_of_sum in product(PLACEMENTS, range(3)):
        question = scaled(drawn_sublayer(COMPACTER.config(attach=attach))(Source(name)), exponent)
        adapter = EmulatedAdapter(float64_site(question.adapter.site(question.site)), rounding, order)
        got = emulated(attach, adapter, rounding, question, order_of_sum)
        assert (np.abs(got - question.expected()["result"]) <= question.bounds(pair)["result"]).all()


def scaled(question: Sublayer, exponent: int) -> Sublayer:
    """The same question with all tensors times 2^exponent."""
    tensors = {name: array * np.float32(2.0**exponent) for name, array in question.adapter.tensors.items()}
    return replace(question, adapter=replace(question.adapter, tensors=tensors))


def emulated(
    attach: Attach,
    adapter: EmulatedAdapter,
    arithmetic: Arithmetic,
    question: Sublayer,
    order_of_sum: int,
) -> Array:
    """The sublayer with every operation rounded; its last sum begins with one of three terms."""
    r, h = question.r, question.h
    store = arithmetic.store

    def norm(v: Array) -> Array:
        return store(store(question.gain * v) + question.offset)

    s = store(r + h)
    x = {Input.SUBLAYER_OUTPUT: h, Input.RESIDUAL: r, Input.NORMED_SUM: norm(s)}[attach.input]
    skip = {Skip.SUBLAYER_OUTPUT: h, Skip.RESIDUAL_SUM: s, Skip.NORMED_SUM: norm(s)}[attach.skip]
    terms = [skip, adapter.delta(x), r] if attach.post else [skip, adapter.delta(x)]
    first = terms.pop(order_of_sum % len(terms))
    for term in terms:
        first = store(first + term)
    return norm(first) if attach.post else first


@pytest.mark.spec("NUM-13", "CNF-8")
@TYPES
@settings(max_examples=10)
@given(name=names, arithmetic=arithmetics, order=orders, choice=st.sampled_from([COMPACTER, SHARED]))
def test_summed_gradients_stay_below_their_bound(
    pair: Pair, arithmetic: Callable[[DType, DType], Arithmetic], order: Order, choice: Choice, name: str
) -> None:
    question = drawn_gradient(choice.config())(Source(name))
    rounding = arithmetic(*pair)
    total: dict[str, Array] = {}
    for site_id in question.x:
        site = float64_site(question.adapter.site(site_id))
        found = EmulatedAdapter(site, rounding, order).vjp(question.x[site_id], question.g[site_id])
        for tensor, value in named_gradients(question.adapter, site_id, found):
            total[tensor] = rounding.store(total[tensor] + value) if tensor in total else value
    bounds, expected = question.bounds(pair), question.expected()
    assert total.keys() == bounds.keys() == expected.keys()
    for tensor, value in total.items():
        assert (np.abs(value - expected[tensor]) <= bounds[tensor]).all(), tensor


@pytest.mark.spec("NUM-13")
def test_several_users_widen_a_bound() -> None:
    """The bound of a shared tensor is more than the sum of its users' bounds (NUM-13)."""
    question = drawn_gradient(COMPACTER.config())(Source("users"))
    pair = PAIRS[1]
    both = gradient_bounds(question.adapter, list(question.x), question.x, question.g, pair)["shared.phm_rule"]
    alone = [
        gradient_bounds(question.adapter, [site], question.x, question.g, pair)["shared.phm_rule"]
        for site in question.x
    ]
    assert (both > sum(alone)).all()
