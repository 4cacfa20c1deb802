"""The adapter and its gradients against the oracle, complex steps and the paper's counts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_core.adapter import Array, DType, ProjectionParameters, SiteParameters
from compacter_core.reference.adapter import delta, forward, vjp
from compacter_core.reference.bounds import delta_bound, forward_bound, vjp_bound, worst_ratio
from compacter_core.vocabulary import Activation, ProjectionKind
from tests.support import oracle
from tests.support.site_tools import complex_steps, named, tensors_of, with_tensors
from tests.support.strategies import arrays, hidden_size, site_inputs, site_parameters

KINDS = pytest.mark.parametrize("kind", ProjectionKind)
ACTIVATIONS = pytest.mark.parametrize("non_linearity", Activation)

# The bound for float64 allows for two float64 evaluations; the reference is one.
OWN_SHARE = 0.5


@pytest.mark.spec("FWD-1", "FWD-2", "FWD-11", "FWD-12", "FWD-13")
@KINDS
@ACTIVATIONS
@settings(max_examples=15)
@given(data=st.data())
def test_delta_and_forward_equal_the_oracle(
    kind: ProjectionKind, non_linearity: Activation, data: st.DataObject
) -> None:
    site = data.draw(site_parameters(kind=kind, non_linearity=non_linearity, max_blocks=3))
    x, skip = data.draw(site_inputs(site, count=2))
    rows, skips = x.reshape(-1, x.shape[-1]), skip.reshape(-1, x.shape[-1])
    bound = delta_bound(site, rows, storage=DType.F64, accumulate=DType.F64)
    assert (oracle.distance(delta(site, rows), oracle.delta(site, rows)) <= OWN_SHARE * bound).all()
    bound = forward_bound(site, rows, skips, storage=DType.F64, accumulate=DType.F64)
    assert (oracle.distance(forward(site, rows, skips), oracle.forward(site, rows, skips)) <= OWN_SHARE * bound).all()
    np.testing.assert_array_equal(forward(site, x, skip), skip + delta(site, x))
    assert delta(site, x).shape == x.shape


@pytest.mark.spec("GRD-1", "GRD-8", "GRD-9")
@KINDS
@ACTIVATIONS
@settings(max_examples=10)
@given(data=st.data())
def test_gradients_equal_the_oracles_differences(
    kind: ProjectionKind, non_linearity: Activation, data: st.DataObject
) -> None:
    site = data.draw(site_parameters(kind=kind, non_linearity=non_linearity, max_blocks=2))
    tokens = data.draw(st.integers(1, 2))
    x, g = (data.draw(arrays((tokens, hidden_size(site)))) for _ in range(2))
    gradients, bounds = named(vjp(site, x, g)), named(vjp_bound(site, x, g, storage=DType.F64, accumulate=DType.F64))
    kinked = non_linearity is Activation.RELU and any(0 in row for row in oracle.down(site, x))
    for name, gradient in gradients.items():
        place = tuple(data.draw(st.integers(0, size - 1)) for size in gradient.shape)
        if not kinked:
            expected = oracle.gradient(site, x, g, name, place)
            assert oracle.distance(gradient[place][None], [expected]) <= OWN_SHARE * bounds[name][place], name


@pytest.mark.spec("GRD-1", "GRD-8", "GRD-9")
@KINDS
@pytest.mark.parametrize("non_linearity", [kind for kind in Activation if kind is not Activation.GELU])
@settings(max_examples=15)
@given(data=st.data())
def test_gradients_equal_complex_steps(kind: ProjectionKind, non_linearity: Activation, data: st.DataObject) -> None:
    site = data.draw(site_parameters(kind=kind, non_linearity=non_linearity))
    x, g = data.draw(site_inputs(site, count=2))
    gradients, bounds = named(vjp(site, x, g)), named(vjp_bound(site, x, g, storage=DType.F64, accumulate=DType.F64))
    for name, gradient in gradients.items():
        expected = complex_steps(value_of(site, x, name), moved_objective(site, x, g, name))
        assert worst_ratio(gradient, expected, bounds[name]) <= 1, name


@pytest.mark.spec("GRD-9")
@given(data=st.data())
def test_gradients_cover_exactly_the_tensors(data: st.DataObject) -> None:
    site = data.draw(site_parameters())
    x, g = data.draw(site_inputs(site, count=2))
    gradients = vjp(site, x, g)
    for side, found in ((site.down, gradients.down), (site.up, gradients.up)):
        assert {name: array.shape for name, array in found.items()} == {
            name: tensor.shape for name, tensor in tensors_of(side).items()
        }
    assert gradients.dx.shape == x.shape
    trained = isinstance(site.scaling, np.ndarray)
    assert (gradients.scaling is not None) == trained
    if isinstance(site.scaling, np.ndarray) and gradients.scaling is not None:
        assert gradients.scaling.shape == site.scaling.shape


@pytest.mark.spec("FWD-21", "CNV-1")
@given(data=st.data())
def test_a_nan_spoils_its_own_row_only(data: st.DataObject) -> None:
    site = data.draw(site_parameters())
    x = data.draw(arrays((3, hidden_size(site))))
    clean = delta(site, x)
    x[1, data.draw(st.integers(0, x.shape[1] - 1))] = np.nan
    spoilt = delta(site, x)
    assert np.isnan(spoilt[1]).all()
    assert worst_ratio(spoilt[::2], clean[::2], delta_bound(site, x[::2], storage=DType.F64, accumulate=DType.F64)) <= 1


@pytest.mark.spec("FWD-22")
@KINDS
@given(data=st.data())
def test_zero_length_batches(kind: ProjectionKind, data: st.DataObject) -> None:
    site = data.draw(site_parameters(kind=kind))
    x = np.zeros((2, 0, hidden_size(site)))
    gradients = vjp(site, x, x)
    assert delta(site, x).shape == gradients.dx.shape == x.shape
    assert not any(array.any() for array in (*gradients.down.values(), *gradients.up.values()))


@given(data=st.data(), dtype=st.sampled_from([np.float16, np.float32, np.longdouble]))
def test_type_is_kept(data: st.DataObject, dtype: type[np.floating]) -> None:
    site = data.draw(site_parameters(integers=True))
    scaling = site.scaling.astype(dtype) if isinstance(site.scaling, np.ndarray) else site.scaling
    site = replace(site, down=cast(site.down, dtype), up=cast(site.up, dtype), scaling=scaling)
    x = np.ones((2, hidden_size(site)), dtype=dtype)
    gradients = named(vjp(site, x, x))
    assert {array.dtype for array in (delta(site, x), forward(site, x, x), *gradients.values())} == {np.dtype(dtype)}


@pytest.mark.parametrize("kind", [ProjectionKind.PHM, ProjectionKind.LPHM])
@given(data=st.data())
def test_zero_rule_leaves_the_skip_alone(kind: ProjectionKind, data: st.DataObject) -> None:
    site = data.draw(site_parameters(kind=kind))
    rules = {name: np.zeros_like(tensor) for name, tensor in tensors_of(site.up).items() if name.startswith("phm_rule")}
    x, skip = data.draw(site_inputs(site, count=2))
    np.testing.assert_array_equal(
        forward(replace(site, up=with_tensors(replace(site.up, b=None), rules)), x, skip), skip
    )


def moved_objective(site: SiteParameters, x: Array, g: Array, name: str) -> Callable[[Array], Any]:
    """sum(g * delta) as a function of the thing called `name`."""

    def objective(moved: Array) -> Any:
        if name == "x":
            return (g * delta(site, moved)).sum()
        if name == "scaling":
            return (g * delta(replace(site, scaling=moved), x)).sum()
        side, short = name.split(".")
        projection = with_tensors(site.down if side == "down" else site.up, {short: moved})
        changed = replace(site, down=projection) if side == "down" else replace(site, up=projection)
        return (g * delta(changed, x)).sum()

    return objective


def value_of(site: SiteParameters, x: Array, name: str) -> Array:
    """The thing called `name`."""
    if name == "x":
        return x
    if name == "scaling":
        return np.asarray(site.scaling)
    side, short = name.split(".")
    return tensors_of(site.down if side == "down" else site.up)[short]


def cast(p: ProjectionParameters, dtype: type[np.floating]) -> ProjectionParameters:
    """The projection in another type."""
    return with_tensors(p, {name: tensor.astype(dtype) for name, tensor in tensors_of(p).items()})
