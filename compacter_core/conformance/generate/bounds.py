"""The bounds that travel with the vectors: for each pair of types, rounded up so that every machine writes the same."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array, DType, SiteParameters
from compacter_core.config import Attach
from compacter_core.layout import Side, projection_names, scaling_name
from compacter_core.reference.adapter import Gradients, delta, vjp
from compacter_core.reference.bounds import delta_bound, vjp_bound
from compacter_core.reference.rounding import Precision
from compacter_core.vocabulary import Input, Skip

Pair = tuple[DType, DType]
"""Types of storage and of accumulation."""

PAIRS: Final[tuple[Pair, ...]] = (
    (DType.F64, DType.F64),
    (DType.F32, DType.F32),
    (DType.F32, DType.F64),
    (DType.F16, DType.F32),
    (DType.F16, DType.F16),
    (DType.BF16, DType.F32),
    (DType.BF16, DType.BF16),
)

_EXPECTATION: Final[Pair] = (DType.F64, DType.F64)
_SIGNIFICANT_BITS: Final = 10
_SLACK: Final = 1.0 + 2.0**-20


def rounded_up(bound: Array) -> Array:
    """The bound with 10 significant bits, rounded up.

    How exp or a matrix product rounds its last bit differs between machines; after this it makes no difference.
    """
    fraction, exponent = np.frexp(bound)
    up: Array = np.ldexp(np.ceil(np.ldexp(fraction, _SIGNIFICANT_BITS)), exponent - _SIGNIFICANT_BITS)
    return up


def sublayer_bound(
    attach: Attach, site: SiteParameters, r: Array, h: Array, *, gain: Array, offset: Array, pair: Pair
) -> Array:
    """Bound for a sublayer whose norm is N(v) = gain * v + offset (CNF-9).

    A sum or product of values that are off by E in all is off by that E, carried on exactly, and by one rounding of all
    there is. With G_P = (1 + u_s)^P - 1 and eta_s for what underflows:

        s = r + h           E_s = u_s |s| + eta
        N(v)                E_N = |gain| E_v + G_2 (|gain| (|v| + E_v) + |offset|) + 3 eta
        delta(x)            E_delta as `delta_bound` has it, for an x that is off by 0 (h, r) or by E_N at s (N(s))
        skip                E_skip is 0 for h, E_s for r + h, E_N at s for N(s)
        w = r + skip + delta, without r if not post, in any order: each term passes at most two sums,
                            E_w = E_skip + E_delta + G_2 (|r| + |skip| + E_skip + |delta| + E_delta) + 3 eta

    and the result is N(w), or w if not post. To this comes the same in F64, which is more than the one rounding of the
    expected value. s and N(s) are exact in F64 as long as the inputs have few bits.

    Args:
        attach: the placement.
        site: the adapter, float64.
        r: residual stream, [..., d].
        h: output of the sublayer's last linear, [..., d].
        gain: [d].
        offset: [d].
        pair: types of storage and accumulation.

    Returns:
        float64 [..., d]
    """
    got = _sublayer_error(attach, site, r, h, gain=gain, offset=offset, pair=pair)
    own = _sublayer_error(attach, site, r, h, gain=gain, offset=offset, pair=_EXPECTATION)
    bound: Array = _SLACK * (got + own)
    return bound


def _sublayer_error(
    attach: Attach, site: SiteParameters, r: Array, h: Array, *, gain: Array, offset: Array, pair: Pair
) -> Array:
    u = Precision.of(*pair)

    def norm_error(v: Array, E: Array) -> Array:
        rounded: Array = u.growth(2) * (np.abs(gain) * (np.abs(v) + E) + np.abs(offset))
        return np.abs(gain) * E + rounded + 3 * u.eta_s

    s = r + h
    nothing = np.zeros_like(s)
    E_s = u.u_s * np.abs(s) + u.eta_s
    normed = (gain * s + offset, norm_error(s, E_s))
    x, E_x = {
        Input.SUBLAYER_OUTPUT: (h, nothing),
        Input.NORMED_SUM: normed,
        Input.RESIDUAL: (r, nothing),
    }[attach.input]
    skip = {
        Skip.SUBLAYER_OUTPUT: (h, nothing),
        Skip.RESIDUAL_SUM: (s, E_s),
        Skip.NORMED_SUM: normed,
    }[attach.skip]
    added = (delta(site, x), delta_bound(site, x, storage=pair[0], accumulate=pair[1], input_error=E_x))
    terms = [skip, added, (r, nothing)] if attach.post else [skip, added]
    E_w = np.sum([E + u.growth(2) * (np.abs(v) + E) for v, E in terms], axis=0) + 3 * u.eta_s
    return norm_error(np.sum([v for v, _ in terms], axis=0), E_w) if attach.post else E_w


def gradient_bounds(
    adapter: Adapter, sites: Sequence[str], x: Mapping[str, Array], g: Mapping[str, Array], pair: Pair
) -> dict[str, Array]:
    """Bounds of the gradients of the sum over `sites` of sum(g * delta(x)), by their names (CNF-8).

    A tensor with m users has the sum of m gradients v, each off by at most B of `vjp_bound`. In any order each of them
    passes at most m - 1 sums, so that the sum is off by at most

        sum B + G_(m-1) sum (|v| + B) + m eta,      G_P = (1 + u_s)^P - 1.

    The one rounding of the expected value is in the B's, whose parts for F64 are larger.
    """
    users: dict[str, list[tuple[Array, Array]]] = {}
    for site_id in sites:
        site = adapter.site(site_id)
        values = named_gradients(adapter, site_id, vjp(site, x[site_id], g[site_id]))
        bounds = vjp_bound(site, x[site_id], g[site_id], storage=pair[0], accumulate=pair[1])
        for (name, value), (_, bound) in zip(values, named_gradients(adapter, site_id, bounds), strict=True):
            users.setdefault(name, []).append((value, bound))
    return {name: _sum_bound(terms, Precision.of(*pair)) for name, terms in users.items()}


def named_gradients(adapter: Adapter, site_id: str, gradients: Gradients) -> list[tuple[str, Array]]:
    """A site's gradients by their names in a gradient case; a tensor that both projections use comes twice."""
    site = adapter.config.site(site_id)
    found = [(f"x.{site_id}", gradients.dx)]
    for side, tensors in ((Side.DOWN, gradients.down), (Side.UP, gradients.up)):
        names = projection_names(adapter.config, site, side).tensors
        found += [(names[short], tensor) for short, tensor in tensors.items()]
    if gradients.scaling is not None:
        found.append((scaling_name(site), gradients.scaling))
    return found


def _sum_bound(terms: Sequence[tuple[Array, Array]], u: Precision) -> Array:
    if len(terms) == 1:
        return terms[0][1]
    sums = u.growth(len(terms) - 1)
    total: Array = np.sum([B + sums * (np.abs(v) + B) for v, B in terms], axis=0) + len(terms) * u.eta_s
    return _SLACK * total
