"""The bounds dominate the errors of emulated implementations in every type and order, and are not loose.

Examples that overflow are set aside: overflow is outside the bounds' model.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings, target
from hypothesis import strategies as st

from compacter_core.adapter import Adapter, Array, DType, ProjectionParameters, SiteParameters
from compacter_core.config import AdapterConfig, Projection, Site
from compacter_core.reference.activations import activate, derivative
from compacter_core.reference.adapter import delta, forward, vjp
from compacter_core.reference.bounds import (
    delta_bound,
    fold_bound,
    forward_bound,
    layer_norm_bound,
    vjp_bound,
    worst_ratio,
)
from compacter_core.reference.column import column_bound, with_column
from compacter_core.reference.gradient_bounds import derivative_error
from compacter_core.reference.initialise import initialise
from compacter_core.reference.placement import layer_norm
from compacter_core.reference.projection import weight
from compacter_core.reference.rounding import Precision, activation_error
from compacter_core.vocabulary import Activation, ProjectionKind
from tests.support import arithmetic as rounded
from tests.support import emulation, oracle
from tests.support.arithmetic import Drifting, Rounded
from tests.support.arrays import round_to
from tests.support.emulation import EmulatedAdapter, Order
from tests.support.site_tools import named, tensors_of, with_tensors
from tests.support.strategies import arrays, hidden_size, site_parameters

TYPES = [
    (DType.F64, DType.F64),
    (DType.F32, DType.F32),
    (DType.F16, DType.F32),
    (DType.F16, DType.F16),
    (DType.BF16, DType.F32),
    (DType.BF16, DType.BF16),
]
PRECISIONS = pytest.mark.parametrize(("storage", "accumulate"), TYPES, ids=lambda dtype: dtype.value)
ORDERS = pytest.mark.parametrize("order", Order)
KINDS = pytest.mark.parametrize("kind", ProjectionKind)


@pytest.mark.spec("NUM-2", "NUM-3", "NUM-7", "NUM-8")
@PRECISIONS
@ORDERS
@KINDS
@settings(max_examples=8)
@given(data=st.data())
def test_values_stay_within(
    storage: DType, accumulate: DType, order: Order, kind: ProjectionKind, data: st.DataObject
) -> None:
    site = data.draw(site_parameters(kind=kind, dtype=storage, max_exponent=1))
    shape = (data.draw(st.integers(1, 3)), hidden_size(site))
    x, skip = (wide(data.draw(arrays(shape, dtype=storage, max_exponent=1))) for _ in range(2))
    site = emulation.rounded_site(site, storage)
    implementation = EmulatedAdapter(site, Rounded(storage, accumulate), order)
    got, y = implementation.delta(x), implementation.forward(x, skip)
    assume(np.isfinite(got).all())
    assume(np.isfinite(y).all())
    bound = delta_bound(site, x, storage=storage, accumulate=accumulate)
    ratio = worst_ratio(got, delta(site, x), bound)
    target(ratio)
    assert ratio <= 1
    bound = forward_bound(site, x, skip, storage=storage, accumulate=accumulate)
    assert worst_ratio(y, forward(site, x, skip), bound) <= 1


@pytest.mark.spec("NUM-9", "NUM-11", "NUM-12")
@PRECISIONS
@ORDERS
@KINDS
@settings(max_examples=8)
@given(data=st.data())
def test_gradients_stay_within(
    storage: DType, accumulate: DType, order: Order, kind: ProjectionKind, data: st.DataObject
) -> None:
    site = data.draw(site_parameters(kind=kind, dtype=storage, max_exponent=1))
    shape = (data.draw(st.integers(1, 3)), hidden_size(site))
    x, g = (wide(data.draw(arrays(shape, dtype=storage, max_exponent=1))) for _ in range(2))
    site = emulation.rounded_site(site, storage)
    got = named(EmulatedAdapter(site, Rounded(storage, accumulate), order).vjp(x, g))
    assume(all(np.isfinite(array).all() for array in got.values()))
    reference = named(vjp(site, x, g))
    bounds = named(vjp_bound(site, x, g, storage=storage, accumulate=accumulate))
    assert got.keys() == reference.keys() == bounds.keys()
    ratios = {name: worst_ratio(got[name], reference[name], bounds[name]) for name in got}
    target(max(ratios.values()))
    assert max(ratios.values()) <= 1, ratios


@pytest.mark.spec("NUM-4")
@pytest.mark.parametrize(("storage", "accumulate"), TYPES[1:], ids=lambda dtype: dtype.value)
@ORDERS
@KINDS
@settings(max_examples=15)
@given(data=st.data())
def test_underflow_is_covered(
    storage: DType, accumulate: DType, order: Order, kind: ProjectionKind, data: st.DataObject
) -> None:
    """Tensors so small that their products leave the normal range, where no relative bound holds."""
    drawn = data.draw(site_parameters(kind=kind, non_linearity=Activation.IDENTITY, max_exponent=0))
    scale = 2.0 ** data.draw(st.integers(-12, -4) if storage is DType.F16 else st.integers(-75, -30))
    small = replace(drawn, down=scaled(drawn.down, scale), up=scaled(drawn.up, scale), scaling=1.0)
    site = emulation.rounded_site(small, storage)
    x = wide(data.draw(arrays((2, hidden_size(site)), dtype=storage, max_exponent=0)))
    implementation = EmulatedAdapter(site, Rounded(storage, accumulate), order)
    bound = delta_bound(site, x, storage=storage, accumulate=accumulate)
    assert worst_ratio(implementation.delta(x), delta(site, x), bound) <= 1
    got, reference = named(implementation.vjp(x, x)), named(vjp(site, x, x))
    bounds = named(vjp_bound(site, x, x, storage=storage, accumulate=accumulate))
    ratios = {name: worst_ratio(got[name], reference[name], bounds[name]) for name in got}
    assert max(ratios.values()) <= 1, ratios


@pytest.mark.spec("NUM-4", "NUM-8")
@PRECISIONS
@settings(max_examples=25)
@given(data=st.data())
def test_wrong_inputs_are_propagated(storage: DType, accumulate: DType, data: st.DataObject) -> None:
    site = emulation.rounded_site(data.draw(site_parameters(dtype=storage, max_exponent=1)), storage)
    x, skip, noise, skip_noise = (
        wide(data.draw(arrays((2, hidden_size(site)), dtype=storage, max_exponent=0))) for _ in range(4)
    )
    size = 2.0 ** data.draw(st.integers(-8, 0))
    moved, skip_moved = (round_to(a + size * e, storage).astype(float) for a, e in ((x, noise), (skip, skip_noise)))
    got = EmulatedAdapter(site, Rounded(storage, accumulate), Order.FACTORED).forward(moved, skip_moved)
    bound = forward_bound(
        site,
        x,
        skip,
        storage=storage,
        accumulate=accumulate,
        input_error=np.abs(moved - x),
        skip_error=np.abs(skip_moved - skip),
    )
    assert worst_ratio(got, forward(site, x, skip), bound) <= 1


@pytest.mark.spec("NUM-14")
@PRECISIONS
@KINDS
@settings(max_examples=25)
@given(data=st.data())
def test_folded_form_stays_within(storage: DType, accumulate: DType, kind: ProjectionKind, data: st.DataObject) -> None:
    site = emulation.rounded_site(data.draw(site_parameters(kind=kind, dtype=storage, max_exponent=1)), storage)
    d = hidden_size(site)
    m, b = (wide(data.draw(arrays(shape, dtype=storage, max_exponent=1))) for shape in ((2, d), (d,)))
    Wd, Wu = weight(site.down), weight(site.up)
    constants = (Wd, b @ Wd + zeroed(site.down.b), Wu * site.scaling, site.scaling * zeroed(site.up.b) + b)
    got = emulation.folded(site, m, Rounded(storage, accumulate), constants)
    bound = fold_bound(site, m, b, storage=storage, accumulate=accumulate)
    ratio = worst_ratio(got, forward(site, m + b, m + b), bound)
    target(ratio)
    assert ratio <= 1


@pytest.mark.spec("NUM-20", "ONX-53")
@PRECISIONS
@KINDS
@settings(max_examples=25)
@given(data=st.data())
def test_form_column_stays_within(storage: DType, accumulate: DType, kind: ProjectionKind, data: st.DataObject) -> None:
    site = emulation.rounded_site(data.draw(site_parameters(kind=kind, dtype=storage, max_exponent=1)), storage)
    d = hidden_size(site)
    m, b = (wide(data.draw(arrays(shape, dtype=storage, max_exponent=1))) for shape in ((2, d), (d,)))
    whole = with_column(site, b)
    # In exact arithmetic it is the same adapter.
    exact = column_bound(site, m, b, storage=DType.F64, accumulate=DType.F64)
    assert worst_ratio(forward(whole, m, m), forward(site, m + b, m + b), exact) <= 1
    stored = emulation.rounded_site(whole, storage)
    got = EmulatedAdapter(stored, Rounded(storage, accumulate), Order.MULTIPLIED_OUT).forward(m, m)
    bound = column_bound(site, m, b, storage=storage, accumulate=accumulate)
    ratio = worst_ratio(got, forward(site, m + b, m + b), bound)
    target(ratio)
    assert ratio <= 1


@pytest.mark.spec("NUM-15")
@PRECISIONS
@pytest.mark.parametrize("two_pass", [True, False])
@settings(max_examples=40)
@given(data=st.data())
def test_layer_norm_stays_within(storage: DType, accumulate: DType, two_pass: bool, data: st.DataObject) -> None:
    d = data.draw(st.integers(1, 12))
    x, gain, bias, noise = (
        wide(data.draw(arrays(shape, dtype=storage, max_exponent=1))) for shape in ((3, d), (d,), (d,), (3, d))
    )
    eps = data.draw(st.sampled_from([1e-12, 1e-5, 0.1]))
    moved = round_to(x + data.draw(st.sampled_from([0.0, 2.0**-10])) * noise, storage).astype(np.float64)
    arithmetic = Rounded(storage, accumulate)
    with np.errstate(invalid="ignore", divide="ignore"):
        got = emulation.layer_norm(arithmetic, moved, gain, bias, eps, two_pass=two_pass)
    bound = layer_norm_bound(x, gain, bias, eps, storage=storage, accumulate=accumulate, input_error=np.abs(moved - x))
    certain = np.isfinite(bound)
    ratio = worst_ratio(got[certain], layer_norm(x, gain, bias, eps)[certain], bound[certain])
    target(ratio)
    assert ratio <= 1


@given(data=st.data())
def test_layer_norm_equals_the_oracle(data: st.DataObject) -> None:
    d = data.draw(st.integers(1, 8))
    x, gain, bias = (data.draw(arrays(shape)) for shape in ((2, d), (d,), (d,)))
    offset = data.draw(st.sampled_from([bias, None]))
    bound = layer_norm_bound(x, gain, offset, 1e-5, storage=DType.F64, accumulate=DType.F64)
    got = oracle.distance(layer_norm(x, gain, offset, 1e-5), oracle.layer_norm(x, gain, offset, 1e-5))
    assert (got <= bound / 2).all()


@pytest.mark.spec("NUM-5", "NUM-10")
@PRECISIONS
@pytest.mark.parametrize("kind", Activation)
def test_activation_allowances_hold_everywhere(storage: DType, accumulate: DType, kind: Activation) -> None:
    """Constants 10 and 16 of the derivations, over a dense range and with elementary functions at their allowance."""
    z = wide(round_to(np.linspace(-12, 12, 20_001), storage))
    arithmetic, precision = Rounded(storage, accumulate), Precision.of(storage, accumulate)
    exact = Precision.of(DType.F64, DType.F64)
    none = np.zeros_like(z)
    bound = activation_error(kind, z, none, precision) + activation_error(kind, z, none, exact)
    assert worst_ratio(rounded.activation(arithmetic, kind, z), activate(kind, z), bound) <= 1
    bound = derivative_error(kind, z, none, precision) + derivative_error(kind, z, none, exact)
    assert worst_ratio(rounded.activation_derivative(arithmetic, kind, z), derivative(kind, z), bound) <= 1


def drift(site: SiteParameters, x: Array, storage: DType, accumulate: DType) -> tuple[float, float]:
    """Worst error/bound of delta and of the gradients where every rounding goes up and nothing can cancel."""
    site = replace(site, down=positive(site.down), up=positive(site.up), scaling=1.0)
    x = 1 + np.abs(x)
    implementation = EmulatedAdapter(site, Drifting(storage, accumulate), Order.MULTIPLIED_OUT)
    bound = delta_bound(site, x, storage=storage, accumulate=accumulate)
    got, reference = named(implementation.vjp(x, x)), named(vjp(site, x, x))
    bounds = named(vjp_bound(site, x, x, storage=storage, accumulate=accumulate))
    gradients = max(worst_ratio(got[name], reference[name], bounds[name]) for name in got)
    return worst_ratio(implementation.delta(x), delta(site, x), bound), gradients


@pytest.mark.spec("NUM-4")
@pytest.mark.parametrize("storage", [DType.F16, DType.BF16])
@KINDS
@settings(max_examples=25)
@given(data=st.data())
def test_counts_of_stored_roundings_are_nearly_reached(
    storage: DType, kind: ProjectionKind, data: st.DataObject
) -> None:
    site = data.draw(site_parameters(kind=kind, non_linearity=Activation.IDENTITY, max_exponent=0))
    ratio, gradients = drift(site, data.draw(arrays((3, hidden_size(site)), max_exponent=0)), storage, DType.F32)
    assert 0.25 <= ratio <= 1
    assert gradients <= 1


@pytest.mark.spec("NUM-4")
@pytest.mark.parametrize("storage", [DType.F32, DType.BF16])
@KINDS
def test_counts_of_partial_sums_are_nearly_reached(storage: DType, kind: ProjectionKind) -> None:
    """At a size where partial sums dominate."""
    projection = Projection(kind=kind, phm_dim=4 if kind.has_rule else None, phm_rank=1 if kind.has_rank else None)
    site = Site(id="encoder.0.ffn", bottleneck_size=16)
    config = AdapterConfig(
        method="test",
        name="test",
        hidden_size=64,
        projection=projection,
        sites=(site,),
        non_linearity=Activation.IDENTITY,
    )
    generator = np.random.default_rng(0)
    parameters = Adapter(config=config, tensors=initialise(config, generator)).site(site.id)
    ratio, gradients = drift(parameters, generator.standard_normal((3, 64)), storage, DType.F32)
    assert 0.5 <= ratio <= 1
    assert gradients <= 1


@pytest.mark.spec("NUM-1")
class TestWorstRatio:
    """The comparison itself must be able to fail."""

    bound = np.array([1.0, 1.0])
    reference = np.array([1.0, 2.0])

    @pytest.mark.parametrize(
        ("got", "expected"),
        [
            ([1.0, 2.0], 0.0),
            ([1.0, 2.5], 0.5),
            ([4.0, 2.0], 3.0),
            ([np.nan, 2.0], np.inf),
            ([1.0, -np.inf], np.inf),
            ([1.0, 2.0, 3.0], np.inf),
        ],
    )
    def test_ratio(self, got: list[float], expected: float) -> None:
        assert worst_ratio(np.array(got), self.reference, self.bound) == expected

    def test_a_difference_without_an_allowance_fails(self) -> None:
        assert worst_ratio(self.bound, self.reference, np.zeros(2)) == np.inf
        assert worst_ratio(self.bound, self.reference, np.full(2, np.nan)) == np.inf

    def test_expected_nans_and_empty_arrays_pass(self) -> None:
        nans = np.array([np.nan, 1.0])
        assert worst_ratio(nans, nans, self.bound) == 0
        assert worst_ratio(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2))) == 0

    def test_a_number_where_a_nan_is_expected_fails(self) -> None:
        assert worst_ratio(self.reference, np.array([np.nan, 2.0]), self.bound) == np.inf


def test_the_bound_tells_gelu_from_gelu_new() -> None:
    """The nearest wrong activation, in float32 and at a small size, is caught where the two differ most."""
    x = np.full((1, 2), -2.7)
    identity = np.eye(2)
    site = with_dense(identity, Activation.GELU_NEW)
    bound = delta_bound(site, x, storage=DType.F32, accumulate=DType.F32)
    wrong = delta(with_dense(identity, Activation.GELU), x)
    assert worst_ratio(wrong, delta(site, x), bound) > 10


def wide(array: Array) -> Array:
    """The array in float64."""
    return array.astype(np.float64)


def zeroed(bias: Array | None) -> Array | float:
    """The bias, or 0 where there is none."""
    return 0.0 if bias is None else bias


def scaled(p: ProjectionParameters, scale: float) -> ProjectionParameters:
    """The projection with all tensors times a number."""
    return with_tensors(p, {name: scale * tensor for name, tensor in tensors_of(p).items()})


def positive(p: ProjectionParameters) -> ProjectionParameters:
    """The projection with tensors of at least 1."""
    return with_tensors(p, {name: 1 + np.abs(tensor) for name, tensor in tensors_of(p).items()})


def with_dense(W: Array, non_linearity: Activation) -> SiteParameters:
    """A site whose projections are both W, without biases."""
    p = ProjectionParameters(kind=ProjectionKind.DENSE, W=W)
    return SiteParameters(down=p, up=p, non_linearity=non_linearity)
