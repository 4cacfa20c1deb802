"""The tensors of a bank: many adapters stacked, of which each row of a batch picks one.

Adapter j is entry j + 1 of every tensor's first axis; entry 0 is neutral, the backbone itself. With S sites, k the
largest bottleneck, n and r of the projections, in and out the sizes of a projection (FWD-3 to FWD-8), the entries are

    {down,up}.left     lphm      [S, in/n, n r]     s, its columns ordered (i, rank)
    {down,up}.right    lphm      [S, n r, out/n]    t, its rows ordered (i, rank)
    {down,up}.left     low_rank  [S, in, r]
    {down,up}.right    low_rank  [S, r, out]
    {down,up}.weight   dense     [S, in, out]
    {down,up}.weight   phm       [S, n, in/n out/n]
    rule               lphm      [1, n, n, 1, n, 1, 1]    A as [a, i, b], with room for rank and columns
    rule               phm       [1, n n, n]              A as [(a, b), i]
    down.bias                    [S, 1, k]          bd, or bd + b Wd where the adapter reads m = h - b
    up.bias                      [S, 1, d]          scaling bu
    scaling                      [S, 1, d]          if trained by channel, or by site with shared fast weights; else
                                                    part of the up-projection
    overrides                    [O, d]             replaced tensors in the template's order, as norms use them (ONX-45)
    overrides.<size>             [O, size]          those of another size than d, as ALBERT's embeddings have
    head.<layer>.weight          [in, out]          out of the last layer: of the largest head in the bank
    head.<layer>.bias            [1, out]           minus infinity where an adapter has no label

S and O count what the template has in the stacks that the graph holds. Fast weights that all sites share, and a rule
that all projections share, stand there once: 1 for S. Rules that are not shared are down.rule and up.rule with S.
Smaller bottlenecks, block by block, and ranks are padded with zeros, which every activation keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array, ProjectionParameters
from compacter_core.config import AdapterConfig, Projection
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.gains import consumed_overrides
from compacter_core.layout import Part, Side
from compacter_core.linkage.dense import bias_behind
from compacter_core.linkage.description import Description
from compacter_core.linkage.fitting import check_fits
from compacter_core.linkage.swappable import linear_bias
from compacter_core.reference.projection import rule
from compacter_core.vocabulary import ProjectionKind, ScalingKind

ADAPTER_ID: Final = "adapter_id"
PREFIX: Final = "compacter/bank"
OVERRIDES: Final = "overrides"
_REMEDY: Final = "Graft the bank again with this adapter as the template."


def bank_input(name: str) -> str:
    """Name of the graph's input for one of the bank's tensors."""
    return f"{PREFIX}/{name}"


def has_scaling(template: AdapterConfig) -> bool:
    """Whether the scaling is a tensor of its own: it varies by channel, or by site where the weights do not."""
    by_site = template.scaling is ScalingKind.LEARNED and template.projection.shared_W
    return template.scaling is ScalingKind.CHANNEL or by_site


def takes_bias(template: AdapterConfig) -> bool:
    """Whether a graph may add bu' to the bias of a linear (LNK-21): there is one, and nothing scales it."""
    return template.bias_up and not has_scaling(template)


@dataclass(frozen=True, slots=True, eq=False)
class BankLayout:
    """Which tensors a bank has.

    Args:
        description: of its graph.
    """

    description: Description

    @property
    def config(self) -> AdapterConfig:
        """The template's configuration, as far as it concerns this graph."""
        return self.description.here

    @property
    def projection(self) -> Projection:
        """The kind and sizes of every projection."""
        return self.config.projection

    @property
    def bottleneck(self) -> int:
        """The largest k of the template's sites."""
        return max(site.bottleneck_size for site in self.config.sites)

    @property
    def overrides(self) -> dict[str, list[str]]:
        """Names of the replaced tensors, in order, by the bank's tensor that they are rows of."""
        rows: dict[str, list[str]] = {}
        for override in self.config.overrides:
            size = self.description.replaced(Part.OVERRIDE, override.name).size
            rows.setdefault(OVERRIDES if size == self.config.hidden_size else f"{OVERRIDES}.{size}", []).append(
                override.name
            )
        return rows

    def sizes(self, side: Side) -> tuple[int, int]:
        """(in, out) of a projection."""
        d, k = self.config.hidden_size, self.bottleneck
        return (d, k) if side is Side.DOWN else (k, d)

    def entry(self, adapter: Adapter | None) -> dict[str, Array]:
        """The entry of an adapter in every tensor, or the neutral one.

        Raises:
            CompacterError: as `check_fits`; E605 for an adapter whose projections differ from the template's, or are
                larger.
        """
        if adapter is not None:
            check_fits(self.description, adapter)
            self._check_projection(adapter.config)
        entry = self._sites(adapter) | self._replaced(adapter)
        dtype = self.description.dtype.memory
        return {name: np.ascontiguousarray(array.astype(dtype)) for name, array in entry.items()}

    def _check_projection(self, config: AdapterConfig) -> None:
        mine, its = self.projection, config.projection
        here = {site.id for site in self.config.sites}
        sites = [site for site in config.sites if site.id in here]
        fits = (
            its.kind is mine.kind
            and its.phm_dim == mine.phm_dim
            and (its.phm_rank or 0) <= (mine.phm_rank or 0)
            and all(site.bottleneck_size <= self.bottleneck for site in sites)
            and mine.shared_phm_rule <= its.shared_phm_rule
            and (not mine.shared_W or (its.shared_W and len(sites) in (0, len(here))))
            and (has_scaling(self.config) or not (mine.shared_W and config.scaling is ScalingKind.LEARNED))
            and (self.config.bias_up or not config.bias_up)
        )
        if not fits:
            raise CompacterError(
                ErrorCode.E605,
                "the adapter's projections do not fit the bank",
                value=str(its),
                expected=f"{mine}, bottlenecks up to {self.bottleneck}, "
                f"{'any' if self.config.bias_up else 'no'} bias after the up-projection",
                remedy=_REMEDY,
            )

    def _sites(self, adapter: Adapter | None) -> dict[str, Array]:
        own = {} if adapter is None else {site.id for site in adapter.config.sites}
        stacked: dict[str, list[Array]] = {}
        for site in self.config.sites:
            of_site = self._site(adapter if site.id in own else None, site.id)
            for name, array in of_site.items():
                stacked.setdefault(name, []).append(array)
        first = next((i for i, site in enumerate(self.config.sites) if site.id in own), 0)
        once = self._shared()
        return {
            name: np.stack(arrays[first : first + 1] if name in once else arrays) for name, arrays in stacked.items()
        }

    def _shared(self) -> set[str]:
        """The tensors that all sites share."""
        shared = {"rule"}
        if self.projection.shared_W:
            shared |= {f"{side}.{name}" for side in Side for name in ("left", "right", "weight")}
        return shared

    def _site(self, adapter: Adapter | None, site_id: str) -> dict[str, Array]:
        """One site's arrays in float64; zeros without an adapter."""
        k, d = self.bottleneck, self.config.hidden_size
        arrays: dict[str, Array] = {"down.bias": np.zeros((1, k))}
        if self.config.bias_up:
            arrays["up.bias"] = np.zeros((1, d))
        if has_scaling(self.config):
            arrays["scaling"] = np.zeros((1, d))
        scaling: Array | float = 1.0
        if adapter is not None:
            site = adapter.site(site_id)
            bias = bias_behind(site, linear_bias(self.description, adapter, site_id))
            n = self.projection.phm_dim or 1
            arrays["down.bias"][0] = _padded(bias.reshape(n, -1), (n, k // n)).reshape(-1)
            given = np.asarray(site.scaling, np.float64)
            if has_scaling(self.config):
                arrays["scaling"][0] = given
            else:
                scaling = given
            if site.up.b is not None:
                arrays["up.bias"][0] = site.up.b.astype(np.float64) * scaling
        for side in Side:
            given_side = None if adapter is None else getattr(adapter.site(site_id), side.value)
            arrays |= self._projection(side, given_side, scaling if side is Side.UP else 1.0)
        return arrays

    def _projection(self, side: Side, p: ProjectionParameters | None, scaling: Array | float) -> dict[str, Array]:
        n_in, n_out = self.sizes(side)
        n, r = self.projection.phm_dim or 1, self.projection.phm_rank or 1
        arrays: dict[str, Array] = {}
        match self.projection.kind:
            case ProjectionKind.DENSE:
                arrays["weight"] = _padded(None if p is None else p.W, (n_in, n_out)) * scaling
            case ProjectionKind.LOW_RANK:
                arrays["left"] = _padded(None if p is None else p.W_left, (n_in, r))
                arrays["right"] = _padded(None if p is None else p.W_right, (r, n_out)) * scaling
            case ProjectionKind.PHM:
                blocks = _padded(None if p is None else p.W, (n, n_in // n, n_out // n)) * scaling
                arrays["weight"] = blocks.reshape(n, -1)
            case ProjectionKind.LPHM:
                left = _padded(None if p is None else p.W_left, (n, n_in // n, r))
                right = _padded(None if p is None else p.W_right, (n, r, n_out // n)) * scaling
                arrays["left"] = left.transpose(1, 0, 2).reshape(n_in // n, n * r)
                arrays["right"] = right.reshape(n * r, n_out // n)
        named = {f"{side}.{name}": array for name, array in arrays.items()}
        if self.projection.kind.has_rule:
            name = "rule" if self.projection.shared_phm_rule else f"{side}.rule"
            named[name] = self._rule(np.zeros((n, n, n)) if p is None else rule(p).astype(np.float64))
        return named

    def _rule(self, A: Array) -> Array:
        n = A.shape[0]
        if self.projection.kind is ProjectionKind.PHM:
            return A.transpose(1, 2, 0).reshape(n * n, n)
        return A.transpose(1, 0, 2).reshape(n, n, 1, n, 1, 1)

    def _replaced(self, adapter: Adapter | None) -> dict[str, Array]:
        """The entries of replaced tensors and of the head: the adapter's, or else the backbone's."""
        entry: dict[str, Array] = {}
        own: Mapping[str, Array] = {} if adapter is None else consumed_overrides(adapter)
        for tensor, names in self.overrides.items():
            rows = [own.get(name, None) for name in names]
            kept = [self.description.replaced(Part.OVERRIDE, name) for name in names]
            entry[tensor] = np.stack([b if a is None else a for a, b in zip(rows, kept, strict=True)])
        head = self.config.head
        if head is None:
            return entry
        has_head = adapter is not None and adapter.config.head is not None
        tensors = adapter.part(Part.HEAD) if adapter is not None and has_head else {}
        for name in head.shapes:
            array = tensors[name] if has_head else self.description.replaced(Part.HEAD, name)
            entry[f"head.{name}"] = array.T if name.endswith(".weight") else array[np.newaxis]
        return entry

    def padding(self, name: str) -> float:
        """What fills the columns of labels that an adapter does not have."""
        head = self.config.head
        return -np.inf if head is not None and name == f"head.{head.layers[-1]}.bias" else 0.0


def _padded(array: Array | None, shape: tuple[int, ...]) -> Array:
    """The array in float64 in the corner of zeros of that shape."""
    padded = np.zeros(shape)
    if array is not None:
        padded[tuple(slice(size) for size in array.shape)] = array
    return padded
