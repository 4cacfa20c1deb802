"""One site: delta(x) = scaling * (act(x Wd + bd) Wu + bu), its gradients, the sublayer around it.

Arguments and results are lists of rows; the tensors of a site come as arrays and are taken exactly.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from compacter_core.adapter import Array, SiteParameters
from compacter_core.config import Attach
from compacter_core.conformance.exact import activations
from compacter_core.conformance.exact.numbers import Matrix, Vector, added, exact
from compacter_core.conformance.exact.projection import gradients, project, read
from compacter_core.vocabulary import Input, Skip


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients of sum(g * delta(x)), as nested lists.

    Args:
        x: for the input, rows.
        down: for the down-projection's tensors, by short name.
        up: for the up-projection's tensors, by short name.
        scaling: for a trained scaling, one element or d of them; None where the scaling is a fixed number.
    """

    x: Matrix
    down: dict[str, Any]
    up: dict[str, Any]
    scaling: Vector | None


def arguments(site: SiteParameters, x: Matrix) -> Matrix:
    """What the activation is taken of: z = x Wd + bd."""
    return project(read(site.down), x)


def delta(site: SiteParameters, x: Matrix) -> Matrix:
    """What the adapter adds to its skip."""
    o = _outputs(site, arguments(site, x))
    return [_times(_scaling(site, len(row)), row) for row in o]


def vjp(site: SiteParameters, x: Matrix, g: Matrix) -> Gradients:
    """Gradients of sum(g * delta(x)), by the chain rule.

    With g' = scaling g and z, a, o as they are reached,

        da = g' Wu^T,   dz = da * act'(z),   dx = dz Wd^T,   dscaling = the sum of g * o over what shares it.
    """
    z = arguments(site, x)
    a = [[activations.activate(site.non_linearity, value) for value in row] for row in z]
    scaled = [_times(_scaling(site, len(row)), row) for row in g]
    da, up = gradients(read(site.up), a, scaled)
    slopes = [[activations.slope(site.non_linearity, value) for value in row] for row in z]
    dz = [_times(*pair) for pair in zip(da, slopes, strict=True)]
    dx, down = gradients(read(site.down), x, dz)
    return Gradients(dx, down, up, _scaling_gradient(site, g, _outputs(site, z)))


def sublayer(attach: Attach, site: SiteParameters, r: Matrix, h: Matrix, *, gain: Vector, offset: Vector) -> Matrix:
    """The sublayer's result, with the norm N(v) = gain * v + offset (CNF-9).

    o = skip + delta(input); the result is N(r + o) if the placement says post, else o.
    """
    s = added(r, h)
    normed = _norm(s, gain, offset)
    x = {Input.SUBLAYER_OUTPUT: h, Input.NORMED_SUM: normed, Input.RESIDUAL: r}[attach.input]
    skip = {Skip.SUBLAYER_OUTPUT: h, Skip.RESIDUAL_SUM: s, Skip.NORMED_SUM: normed}[attach.skip]
    o = added(skip, delta(site, x))
    return _norm(added(r, o), gain, offset) if attach.post else o


def _outputs(site: SiteParameters, z: Matrix) -> Matrix:
    """Before scaling: o = act(z) Wu + bu."""
    a = [[activations.activate(site.non_linearity, value) for value in row] for row in z]
    return project(read(site.up), a)


def _scaling(site: SiteParameters, d: int) -> Vector:
    """One factor for each channel."""
    if isinstance(site.scaling, float | int):
        return [Fraction(site.scaling)] * d
    factors: Vector = exact(site.scaling)
    return factors * (d // len(factors))


def _scaling_gradient(site: SiteParameters, g: Matrix, o: Matrix) -> Vector | None:
    if isinstance(site.scaling, float | int):
        return None
    products = [_times(*pair) for pair in zip(g, o, strict=True)]
    channels = [sum(column, Fraction(0)) for column in zip(*products, strict=True)]
    return channels if _is_by_channel(site.scaling, len(channels)) else [sum(channels, Fraction(0))]


def _is_by_channel(scaling: Array, d: int) -> bool:
    return len(scaling) == d


def _norm(rows: Matrix, gain: Vector, offset: Vector) -> Matrix:
    return [added(_times(gain, row), offset) for row in rows]


def _times(a: Vector, b: Vector) -> Vector:
    return [u * v for u, v in zip(a, b, strict=True)]
