"""Mutants of the placement in a sublayer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from compacter_core.adapter import Array, SiteParameters
from compacter_core.config import AdapterConfig, Attach
from compacter_core.conformance.mutation.mutant import Mutant
from compacter_core.conformance.mutation.numerics import Numerics
from compacter_core.conformance.words import ConformanceClass
from compacter_core.reference.adapter import forward
from compacter_core.reference.placement import Norm
from compacter_core.vocabulary import Input, Skip


@dataclass(frozen=True, slots=True)
class Values:
    """What a sublayer's result is made of."""

    r: Array
    h: Array
    norm: Norm

    def input(self, which: Input) -> Array:
        """What the adapter reads."""
        return {Input.SUBLAYER_OUTPUT: self.h, Input.RESIDUAL: self.r}.get(which, self.norm(self.r + self.h))

    def skip(self, which: Skip) -> Array:
        """What delta is added to."""
        total = self.r + self.h
        return {Skip.SUBLAYER_OUTPUT: self.h, Skip.RESIDUAL_SUM: total}.get(which, self.norm(total))


class ChangedParts(Numerics):
    """Reads or adds to something else."""

    def __init__(self, *, source: Input | None = None, skip: Skip | None = None) -> None:
        self._source = source
        self._skip = skip

    def sublayer(self, attach: Attach, site: SiteParameters, r: Array, h: Array, norm: Norm) -> Array:
        """The result with another input or skip."""
        values = Values(r, h, norm)
        o = forward(site, values.input(self._source or attach.input), values.skip(self._skip or attach.skip))
        return norm(r + o) if attach.post else o


class ChangedEnd(Numerics):
    """Ends the sublayer otherwise; the function gets o, the values, and whether the placement says post."""

    def __init__(self, end: Callable[[Array, Values, bool], Array]) -> None:
        self._end = end

    def sublayer(self, attach: Attach, site: SiteParameters, r: Array, h: Array, norm: Norm) -> Array:
        """The result with another end."""
        values = Values(r, h, norm)
        o = forward(site, values.input(attach.input), values.skip(attach.skip))
        return self._end(o, values, attach.post)


class NoAdapter(Numerics):
    """Leaves the adapter out."""

    def sublayer(self, attach: Attach, site: SiteParameters, r: Array, h: Array, norm: Norm) -> Array:
        """The sublayer's result without it."""
        return norm(r + h)


class AdapterAttach(Numerics):
    """Ignores a site's own placement."""

    def attach(self, config: AdapterConfig, site_id: str) -> Attach:
        """The adapter's placement."""
        return config.attach


def _no_norm(o: Array, values: Values, post: bool) -> Array:
    return values.r + o if post else o


def _norm_twice(o: Array, values: Values, post: bool) -> Array:
    return values.norm(values.norm(values.r + o)) if post else values.norm(o)


def _no_residual(o: Array, values: Values, post: bool) -> Array:
    return values.norm(o) if post else o


def _residual_always(o: Array, values: Values, post: bool) -> Array:
    return values.norm(values.r + o) if post else values.r + o


def _norm_before_residual(o: Array, values: Values, post: bool) -> Array:
    return values.r + values.norm(o) if post else o


def _attach(config: AdapterConfig) -> Attach:
    """The placement at the first site, which the cases are about."""
    return config.attach_of(config.sites[0])


def _is_post(config: AdapterConfig) -> bool:
    return _attach(config).post


def _has_own(config: AdapterConfig) -> bool:
    return config.sites[0].attach not in (None, config.attach)


_mutant: Final = partial(Mutant, classes=frozenset({ConformanceClass.PLACEMENT}))


def _always_reads(source: Input) -> Mutant:
    return _mutant(
        f"input-{source.value.replace('_', '-')}",
        f"reads {source.value} whatever the placement says",
        partial(ChangedParts, source=source),
        lambda config: _attach(config).input is not source,
    )


def _always_adds_to(skip: Skip) -> Mutant:
    return _mutant(
        f"skip-{skip.value.replace('_', '-')}",
        f"adds to {skip.value} whatever the placement says",
        partial(ChangedParts, skip=skip),
        lambda config: _attach(config).skip is not skip,
    )


PLACEMENT_MUTANTS: Final = (
    *(_always_reads(source) for source in Input),
    *(_always_adds_to(skip) for skip in Skip),
    _mutant("no-post-norm", "leaves the norm behind the residual sum out", partial(ChangedEnd, _no_norm), _is_post),
    _mutant(
        "norm-once-more", "applies the norm once more at the end", partial(ChangedEnd, _norm_twice), lambda _: True
    ),
    _mutant("no-residual", "does not add r", partial(ChangedEnd, _no_residual), _is_post),
    _mutant(
        "residual-twice",
        "adds r although the skip has it",
        partial(ChangedEnd, _residual_always),
        lambda c: not _is_post(c),
    ),
    _mutant("norm-before-residual", "adds r behind the norm", partial(ChangedEnd, _norm_before_residual), _is_post),
    _mutant("no-adapter", "leaves the adapter out", NoAdapter, lambda _: True),
    _mutant("own-attach-ignored", "takes the adapter's placement for a site with its own", AdapterAttach, _has_own),
)
