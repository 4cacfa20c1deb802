"""Cases of `sublayer`: every allowed placement in integers, where the answer is exact, and rounded."""

from collections.abc import Callable
from itertools import product
from typing import Final

import numpy as np

from compacter_core.config import ATTACH_PRESETS, AdapterConfig, Attach
from compacter_core.conformance.generate import statements
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import Choice, Rule, Scale, Sizes
from compacter_core.conformance.generate.draw import dyadic_adapter, integer_adapter
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
_EXACT: Final = frozenset({Flag.EXACT})
_DENSE: Final = Choice(kind=ProjectionKind.DENSE, rule=Rule.NONE, activation=Activation.IDENTITY)
_COMPACTER: Final = Choice(kind=ProjectionKind.LPHM, rule=Rule.SHARED)


def add_sublayer_cases(builder: Builder) -> None:
    """All of them."""
    for attach in PLACEMENTS:
        config = _DENSE.config(_TINY, attach=attach)
        add(builder, _plan(f"sublayer/exact/{_words(attach)}", config, _EXACT), integers(config))
        config = _COMPACTER.config(attach=attach)
        add(builder, _plan(f"sublayer/rounded/{_words(attach)}", config), rounded(config))


def integers(config: AdapterConfig) -> Callable[[Source], Sublayer]:
    """Small integers everywhere."""

    def make(source: Source) -> Sublayer:
        shape = (_TOKENS, config.hidden_size)
        return Sublayer(
            adapter=integer_adapter(config, source),
            site=config.sites[0].id,
            r=source.integers(shape, (-2, -1, 1, 2)),
            h=source.integers(shape, (-2, -1, 1, 2)),
            gain=source.integers(shape[-1:], (-2, -1, 2)),
            offset=source.integers(shape[-1:], (-2, -1, 1, 2)),
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


def _plan(
    case_id: str, config: AdapterConfig, flags: frozenset[Flag] = frozenset(), more: tuple[str, ...] = ()
) -> Plan:
    attach = config.attach_of(config.sites[0])
    return Plan(id=case_id, statements=(*statements.sublayer(config, attach), *more), flags=flags)


def _words(attach: Attach) -> str:
    return f"{attach.input.value}-to-{attach.skip.value}"
