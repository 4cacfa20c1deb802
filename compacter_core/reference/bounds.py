"""Elementwise bounds of |implementation - reference|, derived from forward error analysis (specs/numbers.md).

An implementation passes where |got - reference| <= bound, element by element; there is no other tolerance in the
project. A bound holds for every order of evaluation that `rounding` lists, with tensors and results in the type
`storage` and sums in the type `accumulate`. The reference is evaluated in float64, and its own error, bounded in the
same way with u = 2^-53, is part of each bound. The bounds' own evaluation is covered by one factor, 1 + 2^-20.

Arguments are the values the implementation got, already rounded to `storage`. What it got wrong before (an input that
is itself the result of a computation) is declared as `input_error` or `skip_error`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from compacter_core.adapter import Array, DType, SiteParameters
from compacter_core.reference.adapter import Gradients, forward
from compacter_core.reference.gradient_bounds import vjp_error
from compacter_core.reference.projection import weight
from compacter_core.reference.rounding import (
    SLACK,
    Precision,
    activation_error,
    affine_error,
    float64_site,
    magnitude,
    scaling_error,
    trace,
)

_REFERENCE: Final = Precision.of(DType.F64, DType.F64)


def delta_bound(
    site: SiteParameters, x: Array, *, storage: DType, accumulate: DType, input_error: Array | float = 0.0
) -> Array:
    """Bound for `delta(site, x)` (NUM-7): errors of down-projection, activation, up-projection and scaling in a chain.

    Args:
        site: the adapter, as the implementation has it.
        x: [..., d], as the implementation got it.
        storage: type of tensors and results.
        accumulate: type of sums.
        input_error: how far that x may be from the x of the reference, [..., d] or a number.

    Returns:
        float64 [..., d]
    """
    site, x = float64_site(site), x.astype(np.float64)
    return _with_reference(
        Precision.of(storage, accumulate), lambda u, given: _delta_error(site, x, given * input_error, u)
    )


def forward_bound(
    site: SiteParameters,
    x: Array,
    skip: Array,
    *,
    storage: DType,
    accumulate: DType,
    input_error: Array | float = 0.0,
    skip_error: Array | float = 0.0,
) -> Array:
    """Bound for `forward(site, x, skip)` (NUM-8): (1 + u_s)(E_delta + E_skip) + u_s |y| + eta.

    Arguments as for `delta_bound`; `skip` [..., d] may be off by `skip_error`.
    """
    site, x, skip = float64_site(site), x.astype(np.float64), skip.astype(np.float64)
    y = forward(site, x, skip)

    def error(u: Precision, given: float) -> Array:
        return _sum_error(y, _delta_error(site, x, given * input_error, u) + given * skip_error, u)

    return _with_reference(Precision.of(storage, accumulate), error)


def fold_bound(
    site: SiteParameters,
    m: Array,
    b: Array,
    *,
    storage: DType,
    accumulate: DType,
    input_error: Array | float = 0.0,
) -> Array:
    """Bound for the folded form of y = h + delta(h) (NUM-14), where h = m + b, m = a W a linear's product, b its bias.

    The graph computes, with constants made in float64 and rounded once to storage,

        y = m + (act(m Wd + c_d) (scaling Wu) + c_u),    c_d = bd + b Wd,    c_u = scaling bu + b.

    In exact arithmetic this is y. z is an affine map of m whose bias is a sum of magnitude |bd| + |b| Wd', so its bound
    is `affine_error` with that bias. The up-projection is as in delta, but its bias carries b, which is rounded with
    c_u and with the sum: G_2 |b|. The last sum adds m. (The reference forms h in float64: u |h| on its input and on its
    skip.)

    Args:
        site: the adapter; its placement is input = skip = h.
        m: [..., d], as in the graph.
        b: the linear's bias, [d].
        storage: type of the graph's tensors.
        accumulate: type of sums.
        input_error: how far that m may be from the reference's.

    Returns:
        float64 [..., d]
    """
    site, m, b = float64_site(site), m.astype(np.float64), b.astype(np.float64)
    h = m + b
    values = trace(site, h)
    y = forward(site, h, h)
    inner = np.abs(b) @ weight(magnitude(site.down)) + (0.0 if site.down.b is None else np.abs(site.down.b))
    folded_down = replace(site.down, b=inner)

    def error(u: Precision) -> Array:
        E_z = affine_error(folded_down, m, input_error, u)
        E_delta = _after_down(site, values, E_z, u)
        E_inner = (1 + u.u_s) * E_delta + u.growth(2) * np.abs(b) + 2 * u.eta_s
        return _sum_error(y, E_inner + input_error, u)

    own = _REFERENCE.u_s * np.abs(h)
    reference = _sum_error(y, _delta_error(site, h, own, _REFERENCE) + own, _REFERENCE)
    bound: Array = SLACK * (error(Precision.of(storage, accumulate)) + reference)
    return bound


def vjp_bound(site: SiteParameters, x: Array, g: Array, *, storage: DType, accumulate: DType) -> Gradients:
    """Bounds for `vjp(site, x, g)`, each of the shape of its gradient; see `gradient_bounds`.

    A rule or weight that several projections share has the sum of their gradients; its bound is the sum of the bounds,
    and each addition rounds once more.
    """
    site, x, g = float64_site(site), x.astype(np.float64), g.astype(np.float64)
    got = vjp_error(site, x, g, Precision.of(storage, accumulate))
    own = vjp_error(site, x, g, _REFERENCE)
    return Gradients(
        dx=SLACK * (got.dx + own.dx),
        down={name: SLACK * (bound + own.down[name]) for name, bound in got.down.items()},
        up={name: SLACK * (bound + own.up[name]) for name, bound in got.up.items()},
        scaling=None if got.scaling is None or own.scaling is None else SLACK * (got.scaling + own.scaling),
    )


def layer_norm_bound(
    x: Array,
    gain: Array,
    bias: Array | None,
    eps: float,
    *,
    storage: DType,
    accumulate: DType,
    input_error: Array | float = 0.0,
) -> Array:
    """Bound for `layer_norm(x, gain, bias, eps)` (NUM-15), the variance as mean (x - mu)^2 or as mean x^2 - mu^2.

    With X = |x| + E, c = x - mu, v the variance, i = (v + eps)^(-1/2) and g = (1 + u_s)^3 (1 + u_a)^(d + 2) - 1:

        mean        E_m = mean E + g mean X
        variance    E_v = mean(2 |c| (E + mean E) + (E + mean E)^2) + 6 g mean X^2
        inverse     E_i = (v + eps - E_v)^(-1/2) - i, and 6 roundings more (infinite if E_v >= v + eps)
        result      |gain| ((E + E_m)(i + E_i) + |c| E_i) + G_5 (|gain| (X + mean X + E_m)(i + E_i) + |bias|) + 5 eta

    In E_v, mean x^2 - mu^2 rounds twice a quantity of at most mean X^2, and the two-pass form moves c by at most g mean
    X + u |c| and rounds the sum: 2 g + 2 g + g mean X^2 by Cauchy-Schwarz, plus terms of second order. G_5 covers the
    forms ((x - mu) i) gain + bias and (x i - mu i) gain + bias.

    Args:
        x: [..., d], as the implementation got it.
        gain: [d].
        bias: [d] or None.
        eps: added to the variance.
        storage: type of tensors and results.
        accumulate: type of sums.
        input_error: E, [..., d] or a number.

    Returns:
        float64 [..., d]
    """
    x, gain = x.astype(np.float64), np.abs(gain.astype(np.float64))
    offset = np.zeros_like(gain) if bias is None else np.abs(bias.astype(np.float64))
    c = x - x.mean(axis=-1, keepdims=True)
    w = (c * c).mean(axis=-1, keepdims=True) + eps

    def error(u: Precision, given: float) -> Array:
        E = np.broadcast_to(np.asarray(given * input_error, dtype=np.float64), x.shape)
        g = u.growth(3, x.shape[-1] + 2)
        X, E_mean = np.abs(x) + E, E.mean(axis=-1, keepdims=True)
        average, square = X.mean(axis=-1, keepdims=True), (X * X).mean(axis=-1, keepdims=True)
        E_m = E_mean + g * average + u.eta_s
        moved = E + E_mean
        E_v = (2 * np.abs(c) * moved + moved * moved).mean(axis=-1, keepdims=True) + 6 * g * square + 8 * u.eta_s
        certain = ~(E_v >= w)
        largest = 1 / np.sqrt(np.where(certain, w - E_v, w)) * (1 + u.growth(6))
        E_i = largest - 1 / np.sqrt(w)
        scaled = gain * (X + average + E_m) * largest
        moved_result = gain * ((E + E_m) * largest + np.abs(c) * E_i)
        bound = moved_result + u.growth(5) * (scaled + offset) + 5 * u.eta_s * (1 + gain)
        return np.where(certain, bound, np.inf)

    return _with_reference(Precision.of(storage, accumulate), error)


def worst_ratio(got: Array, reference: Array, bound: Array) -> float:
    """The largest |got - reference| / bound: at most 1 where `got` passes (NUM-1); 0 for empty arrays.

    Equal values pass whatever the bound, and so does a NaN where the reference has one; any other NaN, and any
    difference where the bound is 0 or NaN, gives infinity.
    """
    wide, expected = np.asarray(got, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if wide.shape != expected.shape:
        return np.inf
    same = (wide == expected) | (np.isnan(wide) & np.isnan(expected))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(same, 0.0, np.abs(wide - expected) / bound)
    return float(np.where(np.isnan(ratio), np.inf, ratio).max(initial=0.0))


def _with_reference(precision: Precision, error: Callable[[Precision, float], Array]) -> Array:
    """The implementation's error, with what it was given wrong, plus the reference's, given nothing wrong (NUM-3)."""
    bound: Array = SLACK * (error(precision, 1.0) + error(_REFERENCE, 0.0))
    return bound


def _delta_error(site: SiteParameters, x: Array, input_error: Array | float, u: Precision) -> Array:
    """Bound of the error of delta(x)."""
    return _after_down(site, trace(site, x), affine_error(site.down, x, input_error, u), u)


def _after_down(site: SiteParameters, values: tuple[Array, Array, Array], E_z: Array, u: Precision) -> Array:
    """Bound of the error of delta, given that of z. A scaling folded into Wu adds its underflow there: eta |a|."""
    z, a, o = values
    E_a = activation_error(site.non_linearity, z, E_z, u)
    E_o = affine_error(site.up, a, E_a, u)
    folding = u.eta_s * (np.abs(a) + E_a).sum(axis=-1, keepdims=True)
    bound: Array = scaling_error(site.scaling, o, E_o, u) + folding
    return bound


def _sum_error(y: Array, E: Array, u: Precision) -> Array:
    """Bound of the error of a sum y whose terms are off by E in all: (1 + u_s) E + u_s |y| + eta."""
    bound: Array = (1 + u.u_s) * E + u.u_s * np.abs(y) + u.eta_s
    return bound
