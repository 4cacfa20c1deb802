"""One adapter: delta(x) = scaling * (act(x Wd + bd) Wu + bu), y = skip + delta, and the gradients of delta.

Paper, equation 1 (with the residual connection inside) and equation 7; specs/adapter.md.
"""

from dataclasses import dataclass

import numpy as np

from compacter_core.adapter import Array, SiteParameters
from compacter_core.reference.activations import activate, derivative
from compacter_core.reference.projection import project, project_vjp


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gradients:
    """One array for each thing delta depends on; of a site's gradients, or of their error bounds.

    Args:
        dx: for the input, [..., d].
        down: for the down-projection's tensors, by short name.
        up: for the up-projection's tensors, by short name.
        scaling: for a trained scaling, [1] or [d]; None where the scaling is a fixed number.
    """

    dx: Array
    down: dict[str, Array]
    up: dict[str, Array]
    scaling: Array | None


def delta(site: SiteParameters, x: Array) -> Array:
    """What the adapter adds (FWD-1): scaling * (act(x Wd + bd) Wu + bu), x [..., d] -> [..., d].

    Raises:
        CompacterError: E002 for an input that does not fit; E301, E302 for a missing tensor.
    """
    scaled: Array = site.scaling * _unscaled(site, x)
    return scaled


def forward(site: SiteParameters, x: Array, skip: Array) -> Array:
    """The output y = skip + delta(x) (FWD-2), all [..., d]; in the paper skip = x (equation 1). Raises as `delta`."""
    return skip + delta(site, x)


def vjp(site: SiteParameters, x: Array, g: Array) -> Gradients:
    """Gradients of sum(g * delta(x)) (specs/gradients.md).

    With z = x Wd + bd, o = act(z) Wu + bu and g' = scaling g, the chain rule gives

        da = g' Wu^T,   dz = da * act'(z),   dx = dz Wd^T,   dscaling = sum g o,

    and the projections' own gradients from (act(z), g') and (x, dz); see `project_vjp`. A skip = x adds g to dx.

    Args:
        site: the adapter.
        x: [..., d].
        g: [..., d], the cotangent of delta.
    """
    z = project(site.down, x)
    scaled = site.scaling * g
    da, up = project_vjp(site.up, activate(site.non_linearity, z), scaled)
    dx, down = project_vjp(site.down, x, da * derivative(site.non_linearity, z))
    return Gradients(dx=dx, down=down, up=up, scaling=scaling_vjp(site, g * _unscaled(site, x)))


def scaling_vjp(site: SiteParameters, product: Array) -> Array | None:
    """Sums g * o over what shares one scaling: all entries for [1], the tokens for [d]; None for a fixed number."""
    if not isinstance(site.scaling, np.ndarray):
        return None
    per_channel: Array = product.reshape(-1, product.shape[-1]).sum(axis=0)
    return per_channel if site.scaling.shape == per_channel.shape else per_channel.sum(keepdims=True)


def _unscaled(site: SiteParameters, x: Array) -> Array:
    """The output before scaling, o = act(x Wd + bd) Wu + bu."""
    return project(site.up, activate(site.non_linearity, project(site.down, x)))
