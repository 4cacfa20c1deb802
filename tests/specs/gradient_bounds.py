"""The bounds of gradients of numbers.md, transcribed from its text as `bounds` does."""

# ruff: noqa: N802, N806

from collections.abc import Sequence

import numpy as np

from compacter_core.adapter import Array, ProjectionParameters, SiteParameters
from compacter_core.reference.activations import activate, derivative
from compacter_core.reference.projection import project, project_vjp, weight
from compacter_core.vocabulary import Activation
from tests.specs.bounds import (
    GRADIENT_COUNTS,
    Precision,
    absolute,
    activation,
    affine,
    constant,
    counts,
    evaluated,
    margin,
    scaled,
    sizes,
)


def projection_gradients(
    p: ProjectionParameters, x: tuple[Array, Array], g: tuple[Array, Array], u: Precision
) -> dict[str, Array]:
    """NUM-9; x and g come with the bounds of their errors. The input's gradient is named `x`."""

    def F(p: ProjectionParameters, x: Array, g: Array) -> dict[str, Array]:
        dx, tensors = project_vjp(p, x, g)
        return {"x": dx, **tensors}

    size = sizes(p)
    P = counts(p)[0] + 2
    J = size["n_in"] + size["n_out"] + size["n"] * size["r"] + size["n"] + size["r"]
    rows = {word.strip("`"): row[1] for row in GRADIENT_COUNTS[1:] for word in row[0].split(", ")}
    (u_value, E_u), (v_value, E_v) = (np.abs(x[0]), x[1]), (np.abs(g[0]), g[1])
    U, V, plain = u_value + E_u, v_value + E_v, absolute(p)
    whole, by_u, by_v = F(plain, U, V), F(plain, E_u, V), F(plain, u_value, E_v)
    paths = F(absolute(p, 1.0), 1 + U, 1 + V)
    bounds = {}
    for name in whole:
        formula = (
            rows["the input" if name == "x" else name].replace("floor(in/n)", "rows").replace("floor(out/n)", "columns")
        )
        K = evaluated(
            formula, J=J, T=len(x[0]), rows=size["n_in"] // size["n"], columns=size["n_out"] // size["n"], **size
        )
        G = u.G(P, K)
        moved = by_v[name] if name in ("x", "b") else by_u[name] + by_v[name]
        bounds[name] = G * whole[name] + moved + (1 + G) * (P * u.eta_s + 2 * K * u.eta_a) * paths[name]
    return bounds


def slope(kind: Activation, z: Array, E_z: Array, u: Precision) -> Array:
    """NUM-10."""
    if kind is Activation.IDENTITY:
        return np.zeros_like(z)
    if kind is Activation.RELU:
        return np.where(np.abs(z) <= E_z, 1.0, 0.0)
    result: Array = constant(kind, 2) * E_z + 16 * u.u_s * (1 + np.abs(z) + E_z) + 4 * u.eta_s
    return result


def gradients(site: SiteParameters, x: Array, g: Array, u: Precision) -> dict[str, Array]:
    """NUM-11 and NUM-12, by the names of `tests.support.site_tools.named`."""
    nothing = np.zeros_like
    z = project(site.down, x)
    a = activate(site.non_linearity, z)
    E_z = affine(site.down, x, nothing(x), u)
    E_a = activation(site.non_linearity, z, E_z, u)
    scaled_g = site.scaling * g
    E_g = scaled(site.scaling, g, nothing(g), u)
    up = projection_gradients(site.up, (a, E_a), (scaled_g, E_g), u)
    da, E_da = scaled_g @ weight(site.up).T, up["x"]
    act, E_act = derivative(site.non_linearity, z), slope(site.non_linearity, z, E_z, u)
    E_dz = (
        E_da * np.abs(act) + (np.abs(da) + E_da) * E_act + u.u_s * (np.abs(da) + E_da) * (np.abs(act) + E_act) + u.eta_s
    )
    down = projection_gradients(site.down, (x, nothing(x)), (da * act, E_dz), u)
    bounds = {"x": down.pop("x")} | {f"down.{name}": bound for name, bound in down.items()}
    bounds |= {f"up.{name}": bound for name, bound in up.items() if name != "x"}
    if isinstance(site.scaling, np.ndarray):
        o, E_o = project(site.up, a), affine(site.up, a, E_a, u)
        terms = np.abs(g) * (E_o + u.G(2, g.size) * (np.abs(o) + E_o)) + u.eta_s + 2 * u.eta_a
        bounds["scaling"] = terms.sum(axis=0) if site.scaling.size == g.shape[-1] else terms.sum().reshape(1)
    return bounds


def summed(terms: Sequence[tuple[Array, Array]], u: Precision) -> Array:
    """NUM-13, of gradients with their bounds."""
    if len(terms) == 1:
        return terms[0][1]
    growth = u.G(len(terms) - 1)
    total_bound = sum(B + growth * (np.abs(v) + B) for v, B in terms) + len(terms) * u.eta_s
    return np.asarray((1 + margin()) * total_bound)
