"""What of an adapter a graph holds.

An encoder-decoder comes in several graphs: the encoder, the decoder without a cache, the decoder with it, the last two
perhaps as branches of one. Each holds whole stacks. The adapter is cut to these stacks, and everything after that,
grafting and verifying, sees an adapter that fits the graph as a whole.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import onnx_ir as ir

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.stacks import restrict
from compacter_exporters.graph import is_op
from compacter_exporters.linears import Linear, find_linears
from compacter_exporters.norms import Norm, find_norms
from compacter_exporters.quantised import refuse_static
from compacter_exporters.regions import Region
from compacter_exporters.shared_layers import norms_of_calls
from compacter_exporters.sites import FoundSite, find_calls, find_sites
from compacter_exporters.table_norms import in_place

_SPLITTING: Final = ("Reshape", "Transpose")


@dataclass(frozen=True, slots=True, eq=False)
class Present:
    """The adapter's stacks in one graph.

    Args:
        region: the graph.
        adapter: the adapter with the sites and overrides of these stacks alone.
        sites: their linear layers.
        norms: the graph's norms that the backbone's description counts, in order.
        call: which call of the layers this is, where the backbone calls them several times.
    """

    region: Region
    adapter: Adapter
    sites: Mapping[str, FoundSite]
    norms: list[Norm]
    call: int = 0

    @property
    def label(self) -> str:
        """A name for it; empty for the main graph."""
        return " ".join(filter(None, (self.region.label, f"call {self.call + 1}" if self.call else "")))


def present_in(
    regions: Iterable[Region],
    adapter: Adapter,
    *,
    linears: Callable[[ir.Graph], list[Linear]] = find_linears,
    norms: Callable[[ir.Graph], list[Norm]] = find_norms,
) -> list[Present]:
    """The adapter's stacks in those graphs of a model that hold any.

    Args:
        regions: the graphs.
        adapter: the adapter.
        linears: what the linear layers of a graph are.
        norms: what the norms of a graph are.

    Raises:
        CompacterError: E403 and E604, as `find_calls`; E604 as `norms_of_calls` and `in_place`.
    """
    present = []
    for region in regions:
        calls = find_calls(linears(region.graph), adapter)
        if not calls:
            continue
        counted, fitting = in_place(counted_norms(norms(region.graph), adapter.config.hidden_size), adapter)
        norms_of = norms_of_calls(counted, len(calls), adapter.config)
        for call, (sites, of_call) in enumerate(zip(calls, norms_of, strict=True)):
            is_whole = len(sites) == len(adapter.config.sites) and len(of_call) == len(_described_norms(fitting))
            part = fitting if is_whole else restrict(fitting, {one.site.stack for one in sites.values()})
            present.append(Present(region, part, sites, of_call, call))
    return present


def _described_norms(adapter: Adapter) -> tuple[str, ...]:
    return () if adapter.config.backbone is None else adapter.config.backbone.norms


def require_all(regions: Iterable[Region], present: Sequence[Present], adapter: Adapter) -> None:
    """Every site of the adapter is in some graph, and every override goes into one.

    Raises:
        CompacterError: E401, E403 or E604 for the first that is not.
    """
    found = {site_id for one in present for site_id in one.sites}
    missing = tuple(site for site in adapter.config.sites if site.id not in found)
    if missing:
        for region in regions:
            refuse_static(region.graph)
        layers = [layer for region in regions for layer in find_linears(region.graph)]
        find_sites(layers, replace(adapter, config=replace(adapter.config, sites=missing)))
    placed = {override.name for one in present for override in one.adapter.config.overrides}
    for override in adapter.config.overrides:
        if override.name not in placed:
            raise CompacterError(
                ErrorCode.E604,
                "an override is of a stack without a site, so that nothing tells which graph it is for",
                value=override.name,
                expected="overrides in stacks where the adapter has sites",
                remedy="Train norms only where there are sites, or export the backbone as one graph.",
            )


def counted_norms(norms: Sequence[Norm], hidden_size: int) -> list[Norm]:
    """The norms without those of queries and keys, which a backbone's description does not count.

    They are as wide as one head, and what they read has just been split into heads.
    """
    return [
        norm for norm in norms if norm.gain.array().size == hidden_size or not is_op(norm.input.producer(), *_SPLITTING)
    ]
