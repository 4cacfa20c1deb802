"""Gradients of a whole adapter: the sum over sites, where a tensor with several users has the sum of its gradients."""

from collections.abc import Mapping, Sequence
from typing import Any

from compacter_core.adapter import Adapter
from compacter_core.conformance.exact.adapter import vjp
from compacter_core.conformance.exact.numbers import Matrix, added
from compacter_core.layout import Side, projection_names, scaling_name


def gradients(
    adapter: Adapter, sites: Sequence[str], x: Mapping[str, Matrix], g: Mapping[str, Matrix]
) -> dict[str, Any]:
    """Gradients of the sum over `sites` of sum(g * delta(x)) (CNF-8).

    Args:
        adapter: the adapter.
        sites: ids of the sites that take part.
        x: rows, by site.
        g: rows, by site.

    Returns:
        nested lists: `x.<site>` for the inputs, and one for each tensor that those sites use, by its full name.
    """
    total: dict[str, Any] = {}
    for site_id in sites:
        site = adapter.config.site(site_id)
        found = vjp(adapter.site(site_id), x[site_id], g[site_id])
        total[f"x.{site_id}"] = found.x
        for side, tensors in ((Side.DOWN, found.down), (Side.UP, found.up)):
            names = projection_names(adapter.config, site, side).tensors
            for short, gradient in tensors.items():
                _accumulate(total, names[short], gradient)
        if found.scaling is not None:
            total[scaling_name(site)] = found.scaling
    return total


def _accumulate(total: dict[str, Any], name: str, gradient: Any) -> None:
    total[name] = added(total[name], gradient) if name in total else gradient
