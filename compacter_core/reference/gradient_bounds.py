"""Error bounds of the gradients: the forward bounds carried through the chain rule.

Every gradient of a projection is a multilinear form P(x, g, tensors) with coefficients 0 and 1, so that, with
magnitudes X = |x| + E_x, Y = |g| + E_g, factors that are off by E_x and E_g move it by at most P(E_x, Y, |.|) + P(|x|,
E_g, |.|), and its evaluation by G P(X, Y, |.|). `project_vjp` on absolute values evaluates each P.

G has two stored roundings more than the projection itself (`rounding_counts`): at worst M = x^T g, a multiplied-out s t
or left right, the product of both, and the product with the other factor of a factored tensor. The number K of partial
sums depends on the order. With T tokens:

    dx            out, or out/n, n, n r and r in factored orders
    W, W_left,    M (T), then sums over a, b (n^2) and over p or j (in/n, out/n); factored: over tokens and blocks (T
    n), W_right, b    after sums of at most in/n, out/n, n r, n and r terms
    phm_rule…     M (T), then over p and j (in out / n^2); factored: over tokens and r, p or j (T max(r, in/n, out/n))
"""

from typing import Final

import numpy as np

from compacter_core.adapter import Array, ProjectionParameters, SiteParameters
from compacter_core.layout import RULE
from compacter_core.reference.activations import derivative
from compacter_core.reference.adapter import Gradients, scaling_vjp
from compacter_core.reference.projection import project_vjp
from compacter_core.reference.rounding import (
    Precision,
    activation_error,
    affine_error,
    magnitude,
    rounding_counts,
    scaling_error,
    sizes,
    trace,
)
from compacter_core.vocabulary import Activation

_CURVATURE: Final = {
    Activation.GELU_NEW: 0.79789,
    Activation.GELU: 0.79789,
    Activation.SILU: 0.5,
    Activation.TANH: 0.76981,
}
"""The largest |act''|, rounded up."""


def vjp_error(site: SiteParameters, x: Array, g: Array, u: Precision) -> Gradients:
    """Bounds of the errors of `vjp(site, x, g)` in one precision (NUM-11, NUM-12); float64 arguments.

    The chain: E of g' = scaling g; the up-projection's gradients and da; dz = da act'(z) with

        E_dz = E_da |act'| + (|da| + E_da) E_act' + u_s (|da| + E_da)(|act'| + E_act') + eta;

    the down-projection's gradients and dx. The scaling's gradient sums g o: T d partial sums and two stored roundings.
    """
    z, a, o = trace(site, x)
    E_z = affine_error(site.down, x, 0.0, u)
    E_a = activation_error(site.non_linearity, z, E_z, u)
    E_o = affine_error(site.up, a, E_a, u)

    scaled = site.scaling * g
    E_scaled = scaling_error(site.scaling, g, np.zeros_like(g), u)
    da, _ = project_vjp(site.up, a, scaled)
    E_da, E_up = _projection_error(site.up, (a, E_a), (scaled, E_scaled), u)

    slope = derivative(site.non_linearity, z)
    E_slope = derivative_error(site.non_linearity, z, E_z, u)
    largest = (np.abs(da) + E_da) * (np.abs(slope) + E_slope)
    E_dz = E_da * np.abs(slope) + (np.abs(da) + E_da) * E_slope + u.u_s * largest + u.eta_s
    E_dx, E_down = _projection_error(site.down, (x, np.zeros_like(x)), (da * slope, E_dz), u)

    products = np.abs(g) * (E_o + u.growth(2, g.size) * (np.abs(o) + E_o)) + u.eta_s + 2 * u.eta_a
    return Gradients(dx=E_dx, down=E_down, up=E_up, scaling=scaling_vjp(site, products))


def _projection_error(
    p: ProjectionParameters, x: tuple[Array, Array], g: tuple[Array, Array], u: Precision
) -> tuple[Array, dict[str, Array]]:
    """Bounds for `project_vjp(p, x, g)`, where x and g come as (value, bound of its error) (NUM-9).

    Underflow is bounded coarsely: any stored result or partial sum on the way can be off by eta, and is multiplied with
    some of the remaining factors; the product of all (1 + |factor|) is larger than that of any choice of them.
    """
    n_in, n_out, n, r = sizes(p)
    tokens = x[0].size // n_in
    stored = rounding_counts(p)[0] + 2
    common = n_in + n_out + n * r + n + r
    fast = common + tokens * n + n * n
    slow = common + tokens * max(r, n_in // n, n_out // n) + (n_in // n) * (n_out // n)

    X, g_abs = np.abs(x[0]) + x[1], np.abs(g[0]) + g[1]
    absolute = magnitude(p)
    total = project_vjp(absolute, X, g_abs)
    moved_x = project_vjp(absolute, x[1], g_abs)
    moved_g = project_vjp(absolute, np.abs(x[0]), g[1])
    paths = project_vjp(magnitude(p, 1.0), 1 + X, 1 + g_abs)

    def bound(total: Array, moved: Array, paths: Array, accumulated: int) -> Array:
        G = u.growth(stored, accumulated)
        unit = stored * u.eta_s + 2 * accumulated * u.eta_a
        error: Array = G * total + moved + (1 + G) * unit * paths
        return error

    tensors = {
        name: bound(
            total[1][name],
            moved_x[1][name] + moved_g[1][name],
            paths[1][name],
            slow if name.startswith(RULE) else fast,
        )
        for name in total[1]
    }
    # dx does not depend on x, and b's gradient neither: what moves them is the error of g alone.
    if "b" in tensors:
        tensors["b"] = bound(total[1]["b"], moved_g[1]["b"], paths[1]["b"], fast)
    return bound(total[0], moved_g[0], paths[0], common), tensors


def derivative_error(kind: Activation, z: Array, E_z: Array, u: Precision) -> Array:
    """Bound of the error of act'(z) (NUM-10), z off by at most E_z: C E_z + 16 u_s (1 + |z| + E_z), C = max |act''|.

    16 holds for every operation rounded, with exp, tanh and erf accurate to one unit in the last place (2 u) and tanh
    exactly +-1 where it rounds to it: the largest term is z w' (1 - tanh^2 w) / 2 of gelu_new, where 5 u of the
    difference is multiplied by z w' / 2. relu' jumps: where the sign of z is not certain, it may be off by 1.
    """
    if kind is Activation.IDENTITY:
        return np.zeros_like(z)
    if kind is Activation.RELU:
        return np.where(np.isnan(z), z, (np.abs(z) <= E_z).astype(np.float64))
    bound: Array = _CURVATURE[kind] * E_z + 16 * u.u_s * (1 + np.abs(z) + E_z) + 4 * u.eta_s
    return bound
