"""Adapters without an activation, dissolved in a linear: rounded layers stay within the bound, and it is tight."""

import numpy as np
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from compacter_core.adapter import Array, DType, SiteParameters
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.reference.bounds import worst_ratio
from compacter_core.reference.dissolved import AffineMap, dissolved_bound, dissolved_reference
from compacter_core.vocabulary import Activation, ProjectionKind
from tests.support.arithmetic import Rounded, contract
from tests.support.arrays import round_to
from tests.support.strategies import arrays, hidden_size, site_parameters

TYPES = [(DType.F64, DType.F64), (DType.F32, DType.F32), (DType.F16, DType.F32), (DType.BF16, DType.BF16)]


@st.composite
def layers(draw: st.DrawFn, storage: DType, kind: ProjectionKind) -> tuple[SiteParameters, Array, Array, Array]:
    """A site, the input [3, in] of the layer before it, and the layer's weight [in, d] and bias [d]."""
    site = draw(site_parameters(kind=kind, non_linearity=Activation.IDENTITY, dtype=storage, max_exponent=0))
    d, n_in = hidden_size(site), draw(st.integers(1, 6))
    a, W, b = (draw(arrays(shape, dtype=storage, max_exponent=1)) for shape in ((3, n_in), (n_in, d), (d,)))
    return site, a.astype(np.float64), W.astype(np.float64), b.astype(np.float64)


@pytest.mark.spec("NUM-18")
@pytest.mark.parametrize("kind", ProjectionKind)
@pytest.mark.parametrize(("storage", "accumulate"), TYPES, ids=lambda dtype: dtype.value)
@settings(max_examples=10)
@given(data=st.data())
def test_a_rounded_layer_stays_within(
    storage: DType, accumulate: DType, kind: ProjectionKind, data: st.DataObject
) -> None:
    site, a, W, b = data.draw(layers(storage, kind))
    arithmetic = Rounded(storage, accumulate)
    W_after, b_after = (round_to(one, storage).astype(np.float64) for one in AffineMap.of(site)(W, b))
    got = arithmetic.store(arithmetic.store(contract(arithmetic, "ti,io->to", a, W_after)) + b_after)
    bound = dissolved_bound(site, a, (W, b), (W_after, b_after), storage=storage, accumulate=accumulate)
    ratio = worst_ratio(got, dissolved_reference(site, a, W, b), bound)
    target(ratio)
    assert ratio <= 1


@pytest.mark.spec("NUM-18")
@pytest.mark.parametrize("kind", ProjectionKind)
@settings(max_examples=15)
@given(data=st.data())
def test_what_a_layer_is_off_by_is_in_the_bound_and_nothing_more(kind: ProjectionKind, data: st.DataObject) -> None:
    """Small integers are exact, so that the error is that of W' and b', which the bound has too, up to roundings."""
    site, a, W, b = data.draw(layers(DType.F64, kind))
    W_after, b_after = AffineMap.of(site)(W, b)
    wrong = W_after + 1.0, b_after - 1.0
    bound = dissolved_bound(site, a, (W, b), wrong, storage=DType.F64, accumulate=DType.F64)
    moved = np.abs(a).sum(axis=-1, keepdims=True) + 1.0
    assert np.all(bound >= moved * (1 - 2.0**-20))
    scale = 1 + np.abs(a).sum(axis=-1, keepdims=True)
    size = scale * (1 + np.abs(W).max() + np.abs(b).max()) * (1 + np.abs(AffineMap.of(site).c).max())
    inner = AffineMap.of(site).magnitude(np.ones((1, W.shape[1]))).max() ** 2
    assert np.all(bound <= moved * (1 + 2.0**-19) + 2.0**-30 * size * inner)


@settings(max_examples=30)
@given(data=st.data())
def test_the_inverse_undoes_it(data: st.DataObject) -> None:
    site, _, W, b = data.draw(layers(DType.F64, ProjectionKind.DENSE))
    forth = AffineMap.of(site)
    M = forth.linear(np.eye(W.shape[1]))
    condition = np.linalg.cond(M)
    if condition < 2.0**20:
        for got, wanted in zip(forth.inverse()(*forth(W, b)), (W, b), strict=True):
            size = forth.inverse().magnitude(forth.magnitude(np.vstack([W, b[np.newaxis]]))).max()
            assert np.abs(got - wanted).max() <= 2.0**-40 * condition * (1 + size)
    np.testing.assert_allclose(forth.linear(W), W @ M, rtol=0, atol=2.0**-40 * (1 + forth.magnitude(W).max()))


def test_a_singular_map_has_no_inverse() -> None:
    """Wd Wu = -I takes the layer's output away."""
    eye = np.eye(2)
    assert np.isnan(AffineMap(eye, -eye, np.zeros(2)).inverse().linear(eye)).all()


@pytest.mark.parametrize("activation", [one for one in Activation if one is not Activation.IDENTITY])
@settings(max_examples=1)
@given(data=st.data())
def test_an_activation_is_refused(activation: Activation, data: st.DataObject) -> None:
    site = data.draw(site_parameters(non_linearity=activation))
    with pytest.raises(CompacterError) as caught:
        AffineMap.of(site)
    assert caught.value.code is ErrorCode.E605
