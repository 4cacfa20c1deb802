"""Which modules of a checkpoint are the sites of an adapter, and how each is placed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from compacter_core.config import Attach
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.adapterhub.files import INTERFACE_FILE, HubConfig
from compacter_core.importers.adapterhub.options import CONFIG_FILE, Options
from compacter_core.importers.adapterhub.placement import placement
from compacter_core.importers.adapterhub.places import (
    Places,
    expected_sites,
    find_owners,
    owner_of,
    places_of,
    plugin_places,
    wants,
)
from compacter_core.importers.adapterhub.plugin import layers_of, plugin_placement
from compacter_core.importers.result import KnownBackbone
from compacter_core.importers.state import SourceState
from compacter_core.vocabulary import Stack, Sublayer


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where the tensors of an adapter are.

    Args:
        owners: name in the checkpoint of the module that owns each site's adapter, in execution order.
        attach: placement of each site.
        shared: what the keys of shared tensors begin with.
        widths: k of each site, where the backbone's number of layers is known.
    """

    owners: Mapping[str, str]
    attach: Mapping[str, Attach]
    shared: str
    widths: Mapping[str, int]


def make_plan(
    config: HubConfig, interface: Mapping[str, Any] | None, state: SourceState, backbone: KnownBackbone | None
) -> Plan:
    """The sites that the configuration asks for; without a backbone those of them that the checkpoint has.

    Args:
        config: of the adapter.
        interface: of `adapter_interface.json`, or None for an architecture that the library supports itself.
        state: the checkpoint.
        backbone: what the adapter was trained on, if it is known.

    Raises:
        CompacterError: E501 for a checkpoint with none of the sites, E502 and E503 for a placement that cannot be
            expressed or is computed wrongly, E001 if the backbone is needed.
    """
    places = places_of(config.model_type) if interface is None else _plugin_places(interface, backbone)
    prefix, found = find_owners(tuple(state), places, config.name)
    if backbone is None:
        layers: dict[str, int | None] = dict.fromkeys(_asked_for(found, config.options))
    else:
        layers = dict(expected_sites(config.options, backbone.description))
    if prefix is None or not layers:
        raise CompacterError(
            ErrorCode.E501,
            f"{state.place} has no adapter {config.name} at any place of {config.model_type}",
            value=list(state)[:4],
            expected=", ".join(f"{path}.adapters.{config.name}" for path in places.values()),
            remedy="An adapter whose layers share all their tensors needs the backbone (--backbone).",
        )
    return Plan(
        owners={site_id: owner_of(site_id, places, prefix) for site_id in layers},
        attach=_attach(config, interface, layers, backbone),
        shared=f"{prefix}shared_parameters.{config.name}.",
        widths={site_id: _width(config, layer) for site_id, layer in layers.items() if layer is not None},
    )


def _asked_for(sites: Iterable[str], options: Options) -> Iterator[str]:
    """Those of the sites that the options ask for, as far as that is known without the number of layers."""
    for site_id in sites:
        stack, layer, sublayer = site_id.split(".")
        is_left_out = Stack(stack) is Stack.ENCODER and int(layer) in options.leave_out
        if wants(options, Sublayer(sublayer)) and not is_left_out:
            yield site_id


def _width(config: HubConfig, layer: int) -> int:
    """K = d // reduction_factor, and at least 1, as the library computes it.

    Raises:
        CompacterError: E501 for a mapping that leaves the layer open.
    """
    factor = config.options.reduction_of(layer)
    if factor is None:
        raise CompacterError(
            ErrorCode.E501, f"reduction_factor of {CONFIG_FILE} has neither layer {layer} nor a default"
        )
    return max(1, int(config.hidden_size // factor))


def _attach(
    config: HubConfig,
    interface: Mapping[str, Any] | None,
    sites: Mapping[str, int | None],
    backbone: KnownBackbone | None,
) -> dict[str, Attach]:
    if interface is None or backbone is None:
        return dict.fromkeys(sites, placement(config.options))
    return {site_id: plugin_placement(config.options, interface, site_id, backbone) for site_id in sites}


def _plugin_places(interface: Mapping[str, Any], backbone: KnownBackbone | None) -> Places:
    if backbone is None:
        raise CompacterError(
            ErrorCode.E001,
            f"the directory has {INTERFACE_FILE}: where such an adapter sits, only the backbone tells",
            remedy="Give the backbone (--backbone).",
        )
    stacks = list(backbone.description.num_layers)
    if len(stacks) != 1:
        raise CompacterError(ErrorCode.E502, f"{INTERFACE_FILE} of an encoder-decoder", expected="a model of one stack")
    return plugin_places(layers_of(interface), stacks[0])
