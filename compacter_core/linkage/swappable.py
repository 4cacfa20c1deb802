"""The tensors an adapter gives to a swappable graph: every input of the graph that has a default.

    compacter/<site>/down.weight   Wd [d, k]       default [d, 0]
    compacter/<site>/down.bias     bd or, where the adapter reads m = h - b, bd + b Wd [k]       default [0]
    compacter/<site>/up.weight     scaling Wu [k, d]       default [0, d]
    compacter/<site>/up.bias       scaling bu [d]          default zeros
    compacter/override/<name>      a replaced tensor, 1 + weight for a norm that uses that; default: the backbone's
    compacter/head/<name>          a tensor of the head    default: no rows, which stands for the backbone's

k is the adapter's own: with k = 0 a product is the empty sum, zero, and the graph is the backbone. A graph with calls
(LNK-22) takes the projections in the factors of `linkage.factors`, whose n, w and w' are the adapter's own, too:

    compacter/<site>/down.left     left [m, w]             default [d, 0]
    compacter/<site>/down.mixing   mix_down [n, w, k]      default [1, 0, 0]
    compacter/<site>/up.mixing     mix_up [k, n, w']       default [0, 1, 0]
    compacter/<site>/up.right      right [w', m]           default [0, d]

in the place of both weights. All are computed in float64 and rounded once to the graph's type (LNK-3).
"""

from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array
from compacter_core.gains import consumed_overrides
from compacter_core.layout import Part
from compacter_core.linkage.dense import Dense, bias_behind
from compacter_core.linkage.description import Description
from compacter_core.linkage.factors import Factors, factor_shapes
from compacter_core.linkage.fitting import check_fits

PREFIX: Final = "compacter"
_INPUTS: Final = {"left": "down.left", "mix_down": "down.mixing", "mix_up": "up.mixing", "right": "up.right"}


def site_input(site_id: str, tensor: str) -> str:
    """Name of the graph's input for one of a site's tensors."""
    return f"{PREFIX}/{site_id}/{tensor}"


def part_input(part: Part, name: str) -> str:
    """Name of the graph's input for a replaced tensor or one of the head."""
    return f"{PREFIX}/{part.value}/{name}"


def swappable_tensors(description: Description, adapter: Adapter) -> dict[str, Array]:
    """What the adapter gives to the graph, by input; a site, norm or head that it lacks stays the backbone's.

    Raises:
        CompacterError: as `check_fits`, for an adapter of another backbone or with places the graph does not open.
    """
    check_fits(description, adapter)
    tensors: dict[str, Array] = {}
    for site in adapter.config.sites:
        arrays = _site(description, adapter, site.id)
        tensors |= {site_input(site.id, name): array for name, array in arrays.items()}
    tensors |= {part_input(Part.OVERRIDE, name): array for name, array in consumed_overrides(adapter).items()}
    tensors |= {part_input(Part.HEAD, name): array for name, array in adapter.part(Part.HEAD).items()}
    return {name: np.ascontiguousarray(array.astype(description.dtype.memory)) for name, array in tensors.items()}


def swappable_shapes(description: Description, adapter: Adapter) -> dict[str, tuple[int, ...]]:
    """The shapes of `swappable_tensors`, from the configurations alone.

    Raises:
        CompacterError: as `check_fits`.
    """
    check_fits(description, adapter)
    d = adapter.config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {}
    for site in adapter.config.sites:
        k = site.bottleneck_size
        of_site: dict[str, tuple[int, ...]] = {"down.weight": (d, k), "up.weight": (k, d)}
        if description.has_calls:
            of_site = {_INPUTS[name]: shape for name, shape in factor_shapes(adapter.config, k).items()}
        of_site |= {"down.bias": (k,), "up.bias": (d,)}
        shapes |= {site_input(site.id, name): shape for name, shape in of_site.items()}
    for part in (Part.OVERRIDE, Part.HEAD):
        shapes |= {part_input(part, name): array.shape for name, array in adapter.part(part).items()}
    return shapes


def _site(description: Description, adapter: Adapter, site_id: str) -> dict[str, Array]:
    """A site's arrays in float64, by their names within it."""
    parameters = adapter.site(site_id)
    dense = Dense.of(parameters)
    arrays = {"down.weight": dense.Wd, "up.weight": dense.Wu}
    if description.has_calls:
        factors = Factors.of(parameters)
        arrays = {name: getattr(factors, factor) for factor, name in _INPUTS.items()}
    arrays["down.bias"] = bias_behind(parameters, linear_bias(description, adapter, site_id))
    arrays["up.bias"] = np.zeros(adapter.config.hidden_size) if dense.bu is None else dense.bu
    return arrays


def linear_bias(description: Description, adapter: Adapter, site_id: str) -> Array | None:
    """The bias of a site's linear where the adapter reads m: the adapter's own where it replaces it."""
    b = description.bias(site_id)
    backbone = adapter.config.backbone
    modules = None if backbone is None else backbone.modules.get(site_id)
    if b is None or modules is None:
        return b
    return adapter.part(Part.OVERRIDE).get(f"{modules.linear}.bias", b)
