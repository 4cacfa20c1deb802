"""numbers.md and the reference's bounds say the same.

Both are sums of positive terms evaluated in float64, so they may differ by the margin that NUM-3 allows for that.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_core.adapter import Array, DType
from compacter_core.config import Attach
from compacter_core.conformance.generate.bounds import gradient_bounds, sublayer_bound
from compacter_core.layout import Side, projection_names
from compacter_core.reference import bounds as reference
from compacter_core.reference.adapter import forward, vjp
from compacter_core.reference.rms_norm import rms_norm_bound
from compacter_core.reference.rounding import Precision as ReferencePrecision
from compacter_core.vocabulary import Activation, Input, ProjectionKind, Skip
from tests.specs import bounds as text
from tests.specs import gradient_bounds as gradient_text
from tests.support.site_tools import named
from tests.support.strategies import adapter_configs, adapters, arrays, hidden_size, site_parameters

PRECISIONS = st.sampled_from(
    [
        (DType.F64, DType.F64),
        (DType.F32, DType.F32),
        (DType.F16, DType.F32),
        (DType.BF16, DType.BF16),
        (DType.F16, DType.F16),
    ]
)
KINDS = pytest.mark.parametrize("kind", ProjectionKind)
EXACT = text.Precision.of(DType.F64, DType.F64)
MARGIN = text.margin()


def assert_same(got: Array, written: Array) -> None:
    """The reference's bound is the margin times what is written, up to the margin."""
    expected = (1 + MARGIN) * written
    assert got.shape == expected.shape
    np.testing.assert_array_equal(np.isinf(got), np.isinf(expected))
    finite = np.isfinite(expected)
    assert (np.abs(got[finite] - expected[finite]) <= MARGIN * expected[finite]).all()


@pytest.mark.spec("NUM-2")
@pytest.mark.parametrize("dtype", DType)
def test_types(dtype: DType) -> None:
    ours, theirs = text.Precision.of(dtype, dtype), ReferencePrecision.of(dtype, dtype)
    assert (ours.u_s, ours.u_a, ours.eta_s, ours.eta_a) == (theirs.u_s, theirs.u_a, theirs.eta_s, theirs.eta_a)


@pytest.mark.spec("NUM-3", "NUM-4", "NUM-5", "NUM-6", "NUM-7", "NUM-8")
@KINDS
@settings(max_examples=25)
@given(data=st.data(), precision=PRECISIONS)
def test_values(kind: ProjectionKind, data: st.DataObject, precision: tuple[DType, DType]) -> None:
    site = data.draw(site_parameters(kind=kind, max_blocks=3))
    x, skip, E, E_skip = (data.draw(arrays((2, hidden_size(site)))) for _ in range(4))
    E, E_skip = np.abs(E) / 2**10, np.abs(E_skip) / 2**10
    nothing, u = np.zeros_like(x), text.Precision.of(*precision)
    storage, accumulate = precision
    got = reference.delta_bound(site, x, storage=storage, accumulate=accumulate, input_error=E)
    assert_same(got, text.delta(site, x, E, u) + text.delta(site, x, nothing, EXACT))
    got = reference.forward_bound(
        site, x, skip, storage=storage, accumulate=accumulate, input_error=E, skip_error=E_skip
    )
    y = skip + forward(site, x, nothing)
    assert_same(
        got,
        text.total(y, text.delta(site, x, E, u) + E_skip, u)
        + text.total(y, text.delta(site, x, nothing, EXACT), EXACT),
    )


@pytest.mark.spec("NUM-9", "NUM-10", "NUM-11", "NUM-12")
@KINDS
@pytest.mark.parametrize("non_linearity", Activation)
@settings(max_examples=8)
@given(data=st.data(), precision=PRECISIONS)
def test_gradients(
    kind: ProjectionKind, non_linearity: Activation, data: st.DataObject, precision: tuple[DType, DType]
) -> None:
    site = data.draw(site_parameters(kind=kind, non_linearity=non_linearity, max_blocks=3))
    x, g = (data.draw(arrays((3, hidden_size(site)))) for _ in range(2))
    storage, accumulate = precision
    got = named(reference.vjp_bound(site, x, g, storage=storage, accumulate=accumulate))
    written = gradient_text.gradients(site, x, g, text.Precision.of(*precision))
    own = gradient_text.gradients(site, x, g, EXACT)
    assert got.keys() == written.keys()
    for name, bound in got.items():
        assert_same(bound, written[name] + own[name])


@pytest.mark.spec("NUM-13")
@KINDS
@settings(max_examples=15)
@given(data=st.data(), precision=PRECISIONS)
def test_gradients_of_shared_tensors(kind: ProjectionKind, data: st.DataObject, precision: tuple[DType, DType]) -> None:
    config = data.draw(adapter_configs(kind=kind, max_sites=3, max_blocks=3, with_backbone=False))
    adapter = data.draw(adapters(config, dtype=DType.F64))
    sites = [site.id for site in config.sites]
    x, g = ({site: data.draw(arrays((2, config.hidden_size))) for site in sites} for _ in range(2))
    users: dict[str, list[tuple[Array, Array]]] = {}
    for site_id in sites:
        site = adapter.site(site_id)
        u = text.Precision.of(*precision)
        written, own = (gradient_text.gradients(site, x[site_id], g[site_id], each) for each in (u, EXACT))
        names = {
            f"{side}.{short}": full
            for side in Side
            for short, full in projection_names(config, config.site(site_id), side).tensors.items()
        }
        names |= {"x": f"x.{site_id}", "scaling": f"site.{site_id}.scaling"}
        for name, value in named(vjp(site, x[site_id], g[site_id])).items():
            bound = (1 + MARGIN) * (written[name] + own[name])
            users.setdefault(names[name], []).append((value, bound))
    got = gradient_bounds(adapter, sites, x, g, precision)
    assert got.keys() == users.keys()
    for name, bound in got.items():
        expected = gradient_text.summed(users[name], text.Precision.of(*precision))
        assert (np.abs(bound - expected) <= MARGIN * expected).all(), name


@pytest.mark.spec("NUM-16")
@pytest.mark.parametrize("input_", Input)
@pytest.mark.parametrize("skip", Skip)
@settings(max_examples=15)
@given(data=st.data(), precision=PRECISIONS)
def test_sublayer(input_: Input, skip: Skip, data: st.DataObject, precision: tuple[DType, DType]) -> None:
    attach = Attach(input=input_, skip=skip, post=skip is Skip.SUBLAYER_OUTPUT)
    site = data.draw(site_parameters(max_blocks=3))
    d = hidden_size(site)
    r, h = (data.draw(arrays((2, d))) for _ in range(2))
    gain, offset = (data.draw(arrays((d,))) for _ in range(2))
    got = sublayer_bound(attach, site, r, h, gain=gain, offset=offset, pair=precision)
    one, own = (
        text.sublayer(attach, site, r, h, u, gain=gain, offset=offset) for u in (text.Precision.of(*precision), EXACT)
    )
    assert_same(got, one + own)


@pytest.mark.spec("NUM-14")
@settings(max_examples=30)
@given(data=st.data(), precision=PRECISIONS)
def test_folded_form(data: st.DataObject, precision: tuple[DType, DType]) -> None:
    site = data.draw(site_parameters(max_blocks=3))
    m, E = (data.draw(arrays((2, hidden_size(site)))) for _ in range(2))
    b, E = data.draw(arrays((hidden_size(site),))), np.abs(E) / 2**10
    storage, accumulate = precision
    got = reference.fold_bound(site, m, b, storage=storage, accumulate=accumulate, input_error=E)
    own = 2.0**-53 * np.abs(m + b)
    y = forward(site, m + b, m + b)
    exact = text.total(y, text.delta(site, m + b, own, EXACT) + own, EXACT)
    assert_same(got, text.folded(site, m, b, E, text.Precision.of(*precision)) + exact)


@pytest.mark.spec("NUM-15")
@given(data=st.data(), precision=PRECISIONS, eps=st.sampled_from([1e-12, 1e-5, 1.0]))
def test_layer_norm(data: st.DataObject, precision: tuple[DType, DType], eps: float) -> None:
    d = data.draw(st.integers(1, 8))
    x, E = (data.draw(arrays((3, d))) for _ in range(2))
    gain, bias = (data.draw(arrays((d,))) for _ in range(2))
    E = np.abs(E) / 2**12
    storage, accumulate = precision
    got = reference.layer_norm_bound(x, gain, bias, eps, storage=storage, accumulate=accumulate, input_error=E)
    written = text.layer_norm(x, E, text.Precision.of(*precision), gain=gain, bias=bias, eps=eps)
    assert_same(got, written + text.layer_norm(x, np.zeros_like(x), EXACT, gain=gain, bias=bias, eps=eps))


@pytest.mark.spec("NUM-17")
@given(data=st.data(), precision=PRECISIONS, eps=st.sampled_from([1e-12, 1e-5, 1.0]))
def test_rms_norm(data: st.DataObject, precision: tuple[DType, DType], eps: float) -> None:
    d = data.draw(st.integers(1, 8))
    x, E = (data.draw(arrays((3, d))) for _ in range(2))
    gain = data.draw(arrays((d,)))
    E = np.abs(E) / 2**12
    storage, accumulate = precision
    got = rms_norm_bound(x, gain, eps, storage=storage, accumulate=accumulate, input_error=E)
    written = text.rms_norm(x, E, text.Precision.of(*precision), gain=gain, eps=eps)
    assert_same(got, written + text.rms_norm(x, np.zeros_like(x), EXACT, gain=gain, eps=eps))
