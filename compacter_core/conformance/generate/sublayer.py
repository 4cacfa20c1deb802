"""Cases of `sublayer`: every allowed placement in integers, where the answer is exact, and rounded."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Final

import numpy as np

from compacter_core.config import ATTACH_PRESETS, AdapterConfig, Attach
from compacter_core.conformance.generate import statements
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import Biases, Choice, Rule, Scale, Sizes
from compacter_core.conformance.generate.draw import UNITS, dyadic_adapter, integer_adapter
from compacter_core.conformance.generate.numeric import Plan, add
from compacter_core.conformance.generate.questions import Sublayer
from compacter_core.conformance.generate.source import Source
from compacter_core.conformance.words import Flag
from compacter_core.vocabulary import Activation, Input, ProjectionKind, Skip

PLACEMENTS: Final = tuple(
    Attach(input=source, skip=skip, post=skip is Skip.SUBLAYER_OUTPUT) for source, skip in product(Input, Skip)
)
"""Every allowed combination of input, skip and post."""

_TOKENS: Final = 2
_TINY: Final = Sizes(d=4, k=2, n=2, r=1)
_SMALL: Final = (-2, -1, 1, 2)
_GAINS: Final = (-2, 2, 3)
_EXACT: Final = frozenset({Flag.EXACT})
_DENSE: Final = Choice(kind=ProjectionKind.DENSE, rule=Rule.NONE, activation=Activation.IDENTITY)
_LOW_RANK: Final = Choice(
    kind=ProjectionKind.LOW_RANK, rule=Rule.NONE, biases=Biases.NONE, scale=Scale.LEARNED, activation=Activation.RELU
)
_COMPACTER: Final = Choice(kind=ProjectionKind.LPHM, rule=Rule.SHARED)


def add_sublayer_cases(builder: Builder) -> None:
    """All of them."""
    for attach in PLACEMENTS:
        words = f"{attach.input.value}-to-{attach.skip.value}"
        config = _DENSE.config(_TINY, attach=attach)
        add(builder, _plan(f"sublayer/exact/dense/{words}", config, _EXACT), integers(config))
        config = _LOW_RANK.config(_TINY, attach=attach)
        add(builder, _plan(f"sublayer/exact/low_rank/{words}", config, _EXACT), integers(config, UNITS))
        config = _COMPACTER.config(attach=attach)
        add(builder, _plan(f"sublayer/rounded/{words}", config), rounded(config))
    _add_own_placements(builder)
    _add_pre_norm(builder)


def integers(config: AdapterConfig, values: tuple[int, ...] = _SMALL) -> Callable[[Source], Sublayer]:
    """Small integers everywhere."""

    def make(source: Source) -> Sublayer:
        shape = (_TOKENS, config.hidden_size)
        return Sublayer(
            adapter=integer_adapter(config, source),
            site=config.sites[0].id,
            r=source.integers(shape, values),
            h=source.integers(shape, values),
            gain=source.integers(shape[-1:], _GAINS if values == _SMALL else (-2, 2)),
            offset=source.integers(shape[-1:], values),
        )

    return make


def rounded(config: AdapterConfig) -> Callable[[Source], Sublayer]:
    """Dyadic values."""

    def make(source: Source) -> Sublayer:
        shape = (_TOKENS, config.hidden_size)
        return Sublayer(
            adapter=dyadic_adapter(config, source),
            site=config.sites[0].id,
            r=source.dyadic(shape),
            h=source.dyadic(shape),
            gain=source.dyadic(shape[-1:]),
            offset=source.dyadic(shape[-1:]),
        )

    return make


def _add_own_placements(builder: Builder) -> None:
    """A site whose placement is not the adapter's."""
    names = sorted(ATTACH_PRESETS)
    for name, other in zip(names, (*names[1:], names[0]), strict=True):
        config = _DENSE.config(_TINY, attach=ATTACH_PRESETS[other], site_attach=ATTACH_PRESETS[name])
        case = _plan(
            f"sublayer/own-placement/{name.replace('_', '-')}",
            config,
            _EXACT,
            (statements.OWN_ATTACH,),
            f"the site says {name}, the adapter {other}",
        )
        add(builder, case, integers(config))


def _add_pre_norm(builder: Builder) -> None:
    """N is the identity, so r + h and N(r + h) are one, and norms cannot be told from their absence."""
    for attach in PLACEMENTS:
        config = _DENSE.config(_TINY, attach=attach)
        case = _plan(
            f"sublayer/pre-norm/{attach.input.value}-to-{attach.skip.value}",
            config,
            _EXACT,
            (statements.PRE_NORM,),
            "N is the identity",
            notices=False,
        )
        add(builder, case, _without_norm(integers(config)))


def _without_norm(make: Callable[[Source], Sublayer]) -> Callable[[Source], Sublayer]:
    def bare(source: Source) -> Sublayer:
        question = make(source)
        return replace(question, gain=np.ones_like(question.gain), offset=np.zeros_like(question.offset))

    return bare


def _plan(
    case_id: str,
    config: AdapterConfig,
    flags: frozenset[Flag] = frozenset(),
    more: tuple[str, ...] = (),
    comment: str = "",
    *,
    notices: bool = True,
) -> Plan:
    attach = config.attach_of(config.sites[0])
    bounds = () if Flag.EXACT in flags else (statements.SUBLAYER_BOUND,)
    cited = (*statements.sublayer(config, attach), *bounds, *more)
    return Plan(id=case_id, statements=cited, flags=flags, comment=comment, notices=notices)
