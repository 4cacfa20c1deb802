"""The exact arithmetic against decimal arithmetic, exact differences, and the reference on integers."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_core.adapter import Adapter, Array, DType, SiteParameters
from compacter_core.conformance.exact import adapter as exact_adapter
from compacter_core.conformance.exact import sites as exact_sites
from compacter_core.conformance.exact.activations import activate, slope
from compacter_core.conformance.exact.numbers import dot, exact, rounded, rows
from compacter_core.conformance.generate.sublayer import PLACEMENTS
from compacter_core.layout import Side
from compacter_core.reference.placement import sublayer
from compacter_core.vocabulary import Activation, ProjectionKind
from tests.support import oracle
from tests.support.site_tools import tensors_of, with_tensors
from tests.support.strategies import adapter_configs, adapters, arrays, hidden_size, site_parameters

KINDS = pytest.mark.parametrize("kind", ProjectionKind)
ACTIVATIONS = pytest.mark.parametrize("non_linearity", Activation)
SMOOTH = pytest.mark.parametrize(
    "non_linearity", [kind for kind in Activation if kind not in (Activation.RELU, Activation.IDENTITY)]
)

STEP = Fraction(1, 2**106)
"""Of differences. What they leave out is of order step^2 = 2^-212; the 320 bits of an activation, divided by it, give
2^-213."""

DECIMAL_ERROR = Fraction(1, 10**77)
"""Ten operations or so of the decimal oracle, each with 80 digits."""

moderate = st.integers(-(2**10), 2**10).map(lambda numerator: Fraction(numerator, 2**6))


def as_fraction(value: Decimal) -> Fraction:
    return Fraction(*value.as_integer_ratio())


def as_decimal(value: Fraction) -> Decimal:
    with localcontext(oracle.PRECISION):
        return Decimal(value.numerator) / value.denominator


def size_of(*values: Any) -> Fraction:
    """One more than the sum of all magnitudes: larger than any factor, and than any sum of some of them."""
    return 1 + sum((abs(number) for value in values for number in flat(exact(value))), Fraction(0))


def flat(values: Any) -> list[Fraction]:
    return [values] if isinstance(values, Fraction) else [number for value in values for number in flat(value)]


def moved(array: Array, place: tuple[int, ...], step: Fraction) -> Array:
    """The array as fractions, with one element moved."""
    result = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        result[index] = Fraction(array[index].item())
    result[place] += step
    return result


def objective(site: SiteParameters, x: Any, g: Array) -> Fraction:
    delta = exact_adapter.delta(site, exact(x))
    return sum((dot(*pair) for pair in zip(rows(g), delta, strict=True)), Fraction(0))


@ACTIVATIONS
@given(z=moderate)
def test_activations_equal_the_oracle(non_linearity: Activation, z: Fraction) -> None:
    expected = as_fraction(oracle.activate(non_linearity, as_decimal(z)))
    assert abs(activate(non_linearity, z) - expected) <= DECIMAL_ERROR * (1 + abs(z))


@SMOOTH
@given(z=moderate)
def test_slopes_equal_differences(non_linearity: Activation, z: Fraction) -> None:
    difference = (activate(non_linearity, z + STEP) - activate(non_linearity, z - STEP)) / (2 * STEP)
    # No third derivative exceeds 6, the divisor of step^2 in Taylor's series.
    assert abs(slope(non_linearity, z) - difference) <= STEP * STEP * (1 + abs(z))


@given(z=moderate.filter(bool))
def test_rational_slopes(z: Fraction) -> None:
    assert slope(Activation.RELU, z) == int(z > 0)
    assert slope(Activation.RELU, Fraction(0)) == 0
    assert slope(Activation.IDENTITY, z) == 1


@SMOOTH
@pytest.mark.parametrize("exponent", [12, 50, 400, 1000])
def test_activations_saturate(non_linearity: Activation, exponent: int) -> None:
    z = Fraction(2) ** exponent
    limit = 1 if non_linearity is Activation.TANH else z
    assert float(activate(non_linearity, z)) == float(limit)
    assert float(activate(non_linearity, -z)) == (-1.0 if non_linearity is Activation.TANH else 0.0)
    assert float(slope(non_linearity, -z)) == 0.0
    assert float(slope(non_linearity, z)) == (0.0 if non_linearity is Activation.TANH else 1.0)


@KINDS
@ACTIVATIONS
@settings(max_examples=10)
@given(data=st.data())
def test_delta_equals_the_oracle(kind: ProjectionKind, non_linearity: Activation, data: st.DataObject) -> None:
    site = data.draw(site_parameters(kind=kind, non_linearity=non_linearity, dtype=DType.BF16, max_blocks=3))
    x = data.draw(arrays((2, hidden_size(site)), dtype=DType.BF16))
    got, expected = exact_adapter.delta(site, rows(x)), oracle.delta(site, x)
    # Each of the oracle's sums and products loses one unit of 80 digits of at most the product of all sizes.
    sizes = [size_of(x), *(size_of(*tensors_of(p).values()) ** 3 for p in (site.down, site.up)), size_of(site.scaling)]
    limit = DECIMAL_ERROR * prod(sizes, start=Fraction(1))
    for pair in zip(got, expected, strict=True):
        assert all(abs(number - as_fraction(other)) <= limit for number, other in zip(*pair, strict=True))


@KINDS
@settings(max_examples=15)
@given(data=st.data())
def test_gradients_of_rational_sites_equal_differences(kind: ProjectionKind, data: st.DataObject) -> None:
    """With the identity delta is linear in each element, so that a difference is the derivative."""
    site = data.draw(site_parameters(kind=kind, non_linearity=Activation.IDENTITY, dtype=DType.BF16, max_blocks=2))
    check_gradients(data, site, Fraction(1), Fraction(0))


@KINDS
@SMOOTH
@settings(max_examples=3)
@given(data=st.data())
def test_gradients_of_smooth_sites_equal_differences(
    kind: ProjectionKind, non_linearity: Activation, data: st.DataObject
) -> None:
    site = data.draw(site_parameters(kind=kind, non_linearity=non_linearity, dtype=DType.BF16, max_blocks=2))
    check_gradients(data, site, STEP, STEP * STEP)


def check_gradients(data: st.DataObject, site: SiteParameters, step: Fraction, remainder: Fraction) -> None:
    """One element of every gradient against a central difference.

    Its remainder is step^2 / 6 times a third derivative. That one is at most 6 |scaling| |g| |Wu| dz^3, where dz is a
    product of x and the down-projection's tensors, and so at most 6 times the 15th power of the size of all.
    """
    x, g = (data.draw(arrays((2, hidden_size(site)), dtype=DType.BF16)) for _ in range(2))
    gradients = exact_adapter.vjp(site, rows(x), rows(g))
    tensors = [*tensors_of(site.down).values(), *tensors_of(site.up).values()]
    limit = remainder * size_of(*tensors, x, g, site.scaling) ** 15

    def element(values: Any, array: Array) -> tuple[tuple[int, ...], Fraction]:
        place = tuple(data.draw(st.integers(0, size - 1)) for size in array.shape)
        for index in place:
            values = values[index]
        return place, values

    def slope_of(build: Callable[[Fraction], tuple[SiteParameters, Array]]) -> Fraction:
        up, down = (objective(*build(move), g) for move in (step, -step))
        return (up - down) / (2 * step)

    place, got = element(gradients.x, x)
    assert abs(got - slope_of(lambda move: (site, moved(x, place, move)))) <= limit
    for side, found in ((Side.DOWN, gradients.down), (Side.UP, gradients.up)):
        p = getattr(site, side)
        assert found.keys() == tensors_of(p).keys()
        for name, tensor in tensors_of(p).items():
            place, got = element(found[name], tensor)

            def build(move: Fraction, name: str = name, place: Any = place, tensor: Array = tensor) -> Any:
                changes: dict[str, Any] = {str(side): with_tensors(p, {name: moved(tensor, place, move)})}  # noqa: B023
                return replace(site, **changes), x

            assert abs(got - slope_of(build)) <= limit, (side, name)
    assert (gradients.scaling is None) == (not isinstance(site.scaling, np.ndarray))
    if isinstance(site.scaling, np.ndarray):
        scaling = site.scaling
        place, got = element(gradients.scaling, scaling)
        assert abs(got - slope_of(lambda move: (replace(site, scaling=moved(scaling, place, move)), x))) <= limit


@settings(max_examples=25)
@given(data=st.data())
def test_shared_gradients_equal_differences(data: st.DataObject) -> None:
    """Delta is of degree 2 in a tensor that both projections use; central differences of such are exact."""
    config = data.draw(adapter_configs(non_linearity=Activation.IDENTITY, max_blocks=2, with_backbone=False))
    adapter = data.draw(adapters(config, dtype=DType.BF16))
    ids = [site.id for site in config.sites]
    x, g = ({site: data.draw(arrays((2, config.hidden_size), dtype=DType.BF16)) for site in ids} for _ in range(2))

    def total(changed: Adapter) -> Fraction:
        return sum((objective(changed.site(site), rows(x[site]), g[site]) for site in ids), Fraction(0))

    exact_x, exact_g = ({site: rows(values) for site, values in each.items()} for each in (x, g))
    found = exact_sites.gradients(adapter, ids, exact_x, exact_g)
    assert found.keys() == adapter.tensors.keys() | {f"x.{site}" for site in ids}
    for name, tensor in adapter.tensors.items():
        place = tuple(data.draw(st.integers(0, size - 1)) for size in tensor.shape)
        up, down = (
            total(replace(adapter, tensors={**adapter.tensors, name: moved(tensor, place, step)}))
            for step in (Fraction(1), Fraction(-1))
        )
        got = found[name]
        for index in place:
            got = got[index]
        assert got == (up - down) / 2, name


@pytest.mark.parametrize("number", range(len(PLACEMENTS)))
@settings(max_examples=20)
@given(data=st.data())
def test_sublayers_of_integers_equal_the_reference(number: int, data: st.DataObject) -> None:
    kinks = st.sampled_from([Activation.RELU, Activation.IDENTITY])
    site = data.draw(site_parameters(non_linearity=data.draw(kinks), integers=True, max_blocks=2))
    d = hidden_size(site)
    r, h = (data.draw(arrays((2, d), integers=True)) for _ in range(2))
    gain, offset = (data.draw(arrays((d,), integers=True)) for _ in range(2))
    attach = PLACEMENTS[number]
    got = exact_adapter.sublayer(attach, site, rows(r), rows(h), gain=exact(gain), offset=exact(offset))
    if not isinstance(site.scaling, float) or site.scaling != 0.3:
        expected = sublayer(attach, site, r, h, lambda v: gain * v + offset)
        np.testing.assert_array_equal(rounded(got, r.shape), expected)


def test_rounding_is_to_nearest_ties_to_even() -> None:
    half = Fraction(1, 2**53)
    values = [1 + half, 1 + 3 * half, 1 + half + Fraction(1, 2**200), Fraction(1, 3), Fraction(1, 2**1075)]
    expected = [1.0, 1 + 2.0**-51, 1 + 2.0**-52, 1 / 3, 0.0]
    np.testing.assert_array_equal(rounded(values, (5,)), expected)


@pytest.mark.parametrize(("kind", "rows_of_x"), list(product(ProjectionKind, [0, 1])))
def test_few_tokens(kind: ProjectionKind, rows_of_x: int) -> None:
    """Shapes of results do not depend on how many tokens there are."""

    @settings(max_examples=5)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        site = data.draw(site_parameters(kind=kind, non_linearity=Activation.GELU, dtype=DType.BF16, max_blocks=2))
        x = np.ones((rows_of_x, hidden_size(site)))
        found = exact_adapter.vjp(site, rows(x), rows(x))
        for p, gradients in ((site.down, found.down), (site.up, found.up)):
            for name, tensor in tensors_of(p).items():
                assert rounded(gradients[name], tensor.shape).shape == tensor.shape
        assert rounded(exact_adapter.delta(site, rows(x)), x.shape).shape == x.shape

    check()
