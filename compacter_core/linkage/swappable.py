"""The tensors an adapter gives to a swappable graph: every input of the graph that has a default.

    compacter/<site>/down.weight   Wd [d, k]       default [d, 0]
    compacter/<site>/down.bias     bd or, where the adapter reads m = h - b, bd + b Wd [k]       default [0]
    compacter/<site>/up.weight     scaling Wu [k, d]       default [0, d]
    compacter/<site>/up.bias       scaling bu [d]          default zeros
    compacter/override/<name>      a replaced tensor, 1 + weight for a norm that uses that; default: the backbone's
    compacter/head/<name>          a tensor of the head    default: no rows, which stands for the backbone's

k is the adapter's own: with k = 0 a product is the empty sum, zero, and the graph is the backbone. A graph with calls
(LNK-22) takes the tensors of all S sites of its template together, which costs a run less than many inputs do, and the
projections in the factors of `linkage.factors`, whose n, w and w' are the adapter's own, too:

    compacter/sites/down.left      left [S, m, w]             default [S, d, 0]
    compacter/sites/down.mixing    mix_down [S, n, w, k]      default [S, 1, 0, 0]
    compacter/sites/down.bias      [S, k]                     default [S, 0]
    compacter/sites/up.mixing      mix_up [S, k, n, w']       default [S, 0, 1, 0]
    compacter/sites/up.right       right [S, w', m]           default [S, 0, d]
    compacter/sites/up.bias        [S, d]                     default zeros
    compacter/sites/norm.weight    [S, d], where the norms behind all sites are open      default: the backbone's
    compacter/sites/norm.bias      [S, d]                     default: the backbone's

Smaller bottlenecks and sites that the adapter lacks are padded with zeros, which every activation keeps. All are
computed in float64 and rounded once to the graph's type (LNK-3).
"""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array
from compacter_core.config import AdapterConfig
from compacter_core.gains import consumed_overrides
from compacter_core.layout import Part
from compacter_core.linkage.dense import Dense, bias_behind
from compacter_core.linkage.description import Description
from compacter_core.linkage.factors import Factors, factor_shapes
from compacter_core.linkage.fitting import check_fits
from compacter_core.vocabulary import NormStyle

PREFIX: Final = "compacter"
ALL_SITES: Final = "sites"
"""Stands for a site's id in the names of inputs that all sites share."""
NORM_PARTS: Final = ("weight", "bias")
_INPUTS: Final = {"left": "down.left", "mix_down": "down.mixing", "mix_up": "up.mixing", "right": "up.right"}


def site_input(site_id: str, tensor: str) -> str:
    """Name of the graph's input for one of a site's tensors."""
    return f"{PREFIX}/{site_id}/{tensor}"


def part_input(part: Part, name: str) -> str:
    """Name of the graph's input for a replaced tensor or one of the head."""
    return f"{PREFIX}/{part.value}/{name}"


def site_norms(template: AdapterConfig) -> dict[str, tuple[str, ...]]:
    """The replaced tensors that calls take together, in the order of the sites, by the part of a norm that they are.

    None where the norms behind some sites are not open, or not known by name.
    """
    backbone, opened = template.backbone, {override.name for override in template.overrides}
    if backbone is None or backbone.norm_style is NormStyle.PRE:
        return {}
    modules = [backbone.modules.get(site.id) for site in template.sites]
    norms = [one.norm for one in modules if one is not None and one.norm is not None]
    names = {part: tuple(f"{norm}.{part}" for norm in norms) for part in NORM_PARTS}
    are_open = len(norms) == len(modules) and all(opened.issuperset(of_part) for of_part in names.values())
    return names if are_open else {}


def names_apart(description: Description, replaced: Iterable[str]) -> list[str]:
    """Those of an adapter's replaced tensors that have inputs of their own."""
    together = {name for names in _norms(description).values() for name in names}
    return [name for name in replaced if name not in together]


def swappable_tensors(description: Description, adapter: Adapter) -> dict[str, Array]:
    """What the adapter gives to the graph, by input; a site, norm or head that it lacks stays the backbone's.

    Raises:
        CompacterError: as `check_fits`, for an adapter of another backbone or with places the graph does not open.
    """
    check_fits(description, adapter)
    replaced = consumed_overrides(adapter)
    sites = site_tensors(description, adapter)
    if description.has_calls:
        shapes = _shapes_of_all(description, adapter)
        sites = {ALL_SITES: _of_all(description, sites, shapes) | _norms_of_all(description, replaced)}
    tensors = {site_input(site_id, name): array for site_id, one in sites.items() for name, array in one.items()}
    tensors |= {part_input(Part.OVERRIDE, name): replaced[name] for name in names_apart(description, replaced)}
    tensors |= {part_input(Part.HEAD, name): array for name, array in adapter.part(Part.HEAD).items()}
    return {name: np.ascontiguousarray(array.astype(description.dtype.memory)) for name, array in tensors.items()}


def site_tensors(description: Description, adapter: Adapter) -> dict[str, dict[str, Array]]:
    """What the adapter gives for each of its sites, in float64, by the tensors' names within it, as large as it is."""
    return {site.id: _site(description, adapter, site.id) for site in adapter.config.sites}


def swappable_shapes(description: Description, adapter: Adapter) -> dict[str, tuple[int, ...]]:
    """The shapes of `swappable_tensors`, from the configurations alone.

    Raises:
        CompacterError: as `check_fits`.
    """
    check_fits(description, adapter)
    if description.has_calls:
        norms = {
            f"norm.{part}": (len(names), adapter.config.hidden_size) for part, names in _norms(description).items()
        }
        sites = {ALL_SITES: _shapes_of_all(description, adapter) | norms}
    else:
        sites = {site.id: _shapes(description, adapter.config, site.bottleneck_size) for site in adapter.config.sites}
    shapes = {site_input(site_id, name): shape for site_id, one in sites.items() for name, shape in one.items()}
    replaced = adapter.part(Part.OVERRIDE)
    shapes |= {part_input(Part.OVERRIDE, name): replaced[name].shape for name in names_apart(description, replaced)}
    shapes |= {part_input(Part.HEAD, name): array.shape for name, array in adapter.part(Part.HEAD).items()}
    return shapes


def _norms(description: Description) -> dict[str, tuple[str, ...]]:
    """`site_norms` of a graph: of one without calls none."""
    return site_norms(description.template) if description.has_calls else {}


def _shapes(description: Description, config: AdapterConfig, k: int) -> dict[str, tuple[int, ...]]:
    """The shapes of `_site`, for a bottleneck."""
    d = config.hidden_size
    weights: dict[str, tuple[int, ...]] = {"down.weight": (d, k), "up.weight": (k, d)}
    if description.has_calls:
        weights = {_INPUTS[name]: shape for name, shape in factor_shapes(config, k).items()}
    return weights | {"down.bias": (k,), "up.bias": (d,)}


def _shapes_of_all(description: Description, adapter: Adapter) -> dict[str, tuple[int, ...]]:
    """[S, ...] of the largest bottleneck, by the tensors' names."""
    largest = max(site.bottleneck_size for site in adapter.config.sites)
    count = len(description.template.sites)
    return {name: (count, *shape) for name, shape in _shapes(description, adapter.config, largest).items()}


def _of_all(
    description: Description, sites: Mapping[str, Mapping[str, Array]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """The tensors of all sites of the template, zeros where there is nothing."""
    stacks = {name: np.zeros(shape) for name, shape in shapes.items()}
    for index, site in enumerate(description.template.sites):
        for name, array in sites.get(site.id, {}).items():
            stacks[name][index][tuple(map(slice, array.shape))] = array
    return stacks


def _norms_of_all(description: Description, replaced: Mapping[str, Array]) -> dict[str, Array]:
    """Gains and biases of the norms behind the sites: the adapter's, or else the backbone's."""

    def row(name: str) -> Array:
        return replaced[name] if name in replaced else description.replaced(Part.OVERRIDE, name)

    return {f"norm.{part}": np.stack([row(name) for name in names]) for part, names in _norms(description).items()}


def _site(description: Description, adapter: Adapter, site_id: str) -> dict[str, Array]:
    """A site's arrays, by their names within it."""
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
