"""Adapters of two projections in one module, as the paper's code and OpenDelta have them, by this format's names.

Both compute H = sum_i kron(phm_rule_i, W_left_i W_right_i) of shape (in, out), as this format does; a dense projection
is an `nn.Linear`, whose weight is (out, in). A shared tensor stands in the checkpoint under one name for each module
that uses it, and these aliases have to agree.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from compacter_core.adapter import Array
from compacter_core.config import AdapterConfig, Projection, Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.options import ForeignOptions
from compacter_core.importers.state import SourceState
from compacter_core.layout import Shape, Side, projection_names
from compacter_core.vocabulary import ProjectionKind, Sublayer

_LINEAR = {"W": "weight", "b": "bias"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerKeys:
    """How a library names the tensors of its adapters.

    Args:
        owners: site id to the name of the module that holds the two projections.
        sides: names of the projections in that module.
        roots: names of shared tensors at the root of the checkpoint, by their name in this format.
    """

    owners: Mapping[str, str]
    sides: Mapping[Side, str]
    roots: Mapping[str, str] = field(default_factory=dict)

    def key(self, site_id: str, side: Side, short: str, kind: ProjectionKind) -> str:
        """The key of one tensor of a projection."""
        leaf = _LINEAR[short] if kind is ProjectionKind.DENSE else short
        return f"{self.owners[site_id]}.{self.sides[side]}.{leaf}"


@dataclass(frozen=True, slots=True)
class _Source:
    """Where one tensor stands: its keys, its shape there, and whether it is the transpose of ours."""

    keys: Sequence[str]
    shape: Shape
    transposed: bool


def make_sites(state: SourceState, projection: Projection, keys: SamplerKeys) -> tuple[Site, ...]:
    """The sites with the widths that the tensors have, in the order of `keys.owners`.

    Raises:
        CompacterError: E301 for a missing down-projection, E304 if it is none.
    """
    short = "W_right" if projection.kind.has_rank else "W"
    sites = []
    for site_id in keys.owners:
        key = keys.key(site_id, Side.DOWN, short, projection.kind)
        shape = state.peek(key).shape
        rank = 3 if projection.kind.has_rule else 2
        if len(shape) != rank:
            raise CompacterError(
                ErrorCode.E304, f"shape of {key} in {state.place}", value=shape, expected=f"{rank} dimensions"
            )
        width = shape[0] if projection.kind is ProjectionKind.DENSE else shape[-1] * (projection.phm_dim or 1)
        sites.append(Site(id=site_id, bottleneck_size=int(width)))
    return tuple(sites)


def check_widths(sites: Sequence[Site], expected: int, reason: str) -> None:
    """Every site has the width that the configuration gives it.

    Raises:
        CompacterError: E304.
    """
    for site in sites:
        if site.bottleneck_size != expected:
            raise CompacterError(
                ErrorCode.E304,
                f"width of the bottleneck at {site.id}",
                value=site.bottleneck_size,
                expected=f"{expected}, by {reason}",
            )


def require_rank_one(options: ForeignOptions, name: str) -> None:
    """The rank of the low-rank linears that OpenDelta and the paper's code share is 1.

    They multiply W_left [in, r] and W_right [r, out] elementwise. For r = 1 that is the matrix product; for any other r
    it fails, or is something else where the sizes happen to fit.

    Raises:
        CompacterError: E503 for another rank.
    """
    rank = options.count(name)
    if rank != 1:
        raise CompacterError(
            ErrorCode.E503,
            f"option {name} of {options.place}: the library multiplies the two factors elementwise, which is the "
            "matrix product for rank 1 alone",
            value=rank,
            expected="1",
        )


def take_tensors(state: SourceState, config: AdapterConfig, keys: SamplerKeys) -> dict[str, Array]:
    """All tensors of the adapter proper by their name in this format.

    Raises:
        CompacterError: E301 or E302 for a missing one, E304 for another shape, E307 for aliases that disagree.
    """
    sources: dict[str, _Source] = {}
    for full, source in _sources(config, keys):
        known = sources.get(full)
        sources[full] = _Source([*known.keys, *source.keys], known.shape, known.transposed) if known else source
    return {full: _take(state, source, keys.roots.get(full)) for full, source in sources.items()}


def method_label(projection: Projection, sites: Sequence[Site]) -> str:
    """The label of the method, which decides nothing."""
    match projection.kind:
        case ProjectionKind.LPHM:
            return "compacter++" if all(site.sublayer is Sublayer.FFN for site in sites) else "compacter"
        case ProjectionKind.PHM:
            return "phm_adapter"
        case ProjectionKind.LOW_RANK:
            return "low_rank"
        case ProjectionKind.DENSE:
            return "adapter"


def _sources(config: AdapterConfig, keys: SamplerKeys) -> Iterator[tuple[str, _Source]]:
    kind = config.projection.kind
    for site in config.sites:
        for side in Side:
            names = projection_names(config, site, side)
            for short, full in names.tensors.items():
                transposed = kind is ProjectionKind.DENSE and short == "W"
                shape = names.shapes[short][::-1] if transposed else names.shapes[short]
                yield full, _Source([keys.key(site.id, side, short, kind)], shape, transposed)


def _take(state: SourceState, source: _Source, root: str | None) -> Array:
    """The one tensor that all of its names stand for. A shared one may have lost some of its names, but not all."""
    aliases = [key for key in ([root] if root else []) + list(source.keys) if key in state]
    if not aliases:
        raise state.missing(root or source.keys[0])
    first, *others = ((key, state.take(key, source.shape)) for key in aliases)
    for key, array in others:
        if not np.array_equal(array, first[1]):
            raise CompacterError(
                ErrorCode.E307,
                f"{first[0]} and {key} of {state.place} are names of one shared tensor and differ",
                remedy="The checkpoint is damaged, or was trained without sharing the tensor after all.",
            )
    return first[1].T if source.transposed else first[1]
