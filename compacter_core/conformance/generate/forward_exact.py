"""Cases of `forward` in small integers: every sum is exact in every type, so that only the right answer passes."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from compacter_core.config import AdapterConfig
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import (
    FFN,
    Biases,
    Choice,
    Rule,
    Scale,
    Sizes,
    kinds_and_rules,
)
from compacter_core.conformance.generate.draw import UNITS, integer_adapter, with_tensors
from compacter_core.conformance.generate.forward import plan
from compacter_core.conformance.generate.numeric import add
from compacter_core.conformance.generate.questions import Forward
from compacter_core.conformance.generate.source import Source
from compacter_core.conformance.words import Flag
from compacter_core.vocabulary import Activation, ProjectionKind

_SMALL: Final = (-2, -1, 1, 2)
_TINY: Final = Sizes(d=4, k=2, n=2, r=1)
_TWO_RANKS: Final = Sizes(d=4, k=2, n=2, r=2)
_EXACT: Final = frozenset({Flag.EXACT})
_SATURATED: Final = tuple(range(20, 27))
"""Biases bd that keep z between 16 and 32, where both GELUs return z in every type, whatever formula is used."""


def add_exact_forward_cases(builder: Builder) -> None:
    """All of them."""
    for kind, rule in kinds_and_rules():
        for activation in (Activation.IDENTITY, Activation.RELU):
            choice = Choice(kind=kind, rule=rule, activation=activation)
            _add(builder, choice, integers(choice.config(_TINY)))
        choice = Choice(kind=kind, rule=rule, shared_W=True, scale=Scale.LEARNED, activation=Activation.RELU)
        _add(builder, choice, integers(choice.config(_TINY), x_values=UNITS))
        choice = Choice(kind=kind, rule=rule, scale=Scale.CHANNEL, activation=Activation.IDENTITY)
        _add(builder, choice, integers(choice.config(_TINY), x_values=UNITS))
    for kind in (ProjectionKind.LOW_RANK, ProjectionKind.LPHM):
        rule = Rule.SHARED if kind.has_rule else Rule.NONE
        choice = Choice(kind=kind, rule=rule, biases=Biases.DOWN, activation=Activation.IDENTITY)
        _add(builder, choice, integers(choice.config(_TWO_RANKS), x_values=UNITS), "two-ranks/")
    for activation in (Activation.GELU, Activation.GELU_NEW):
        for kind, rule in ((ProjectionKind.DENSE, Rule.NONE), (ProjectionKind.LPHM, Rule.SHARED)):
            choice = Choice(kind=kind, rule=rule, activation=activation)
            make = saturated(choice.config(_TINY, sites=(FFN,)))
            _add(
                builder, choice, make, "saturated/", "z is at least 16, so that act(z) = z in every type", notices=False
            )


def integers(config: AdapterConfig, x_values: Sequence[int] = _SMALL) -> Callable[[Source], Forward]:
    """Small integers everywhere."""

    def make(source: Source) -> Forward:
        shape = (2, config.hidden_size)
        return Forward(
            adapter=integer_adapter(config, source),
            site=config.sites[0].id,
            x=source.integers(shape, x_values),
            skip=source.integers(shape, _SMALL),
        )

    return make


def saturated(config: AdapterConfig) -> Callable[[Source], Forward]:
    """Small integers, and large biases bd; Wd keeps z positive."""

    def make(source: Source) -> Forward:
        question = integers(config, UNITS)(source)
        (site,) = config.sites
        name = f"site.{site.id}.down.b"
        bias = source.integers((site.bottleneck_size,), _SATURATED)
        return Forward(
            adapter=with_tensors(question.adapter, {name: bias}),
            site=question.site,
            x=question.x * (np.arange(config.hidden_size) < 1) + (np.arange(config.hidden_size) >= 1),
            skip=question.skip,
        )

    return make


def _add(
    builder: Builder,
    choice: Choice,
    make: Callable[[Source], Forward],
    folder: str = "",
    comment: str = "",
    *,
    notices: bool = True,
) -> None:
    config = choice.config(_TINY)
    case = plan(f"forward/exact/{folder}{choice.words}", config, flags=_EXACT, comment=comment, notices=notices)
    add(builder, case, make)
