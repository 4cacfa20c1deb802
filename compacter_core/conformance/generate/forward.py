"""Cases of `forward`: every pair of choices, activations near their bends, special shapes and values."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from compacter_core.adapter import DType
from compacter_core.config import AdapterConfig
from compacter_core.conformance.generate import statements
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import FFN, Biases, Choice, Rule, Scale, Sizes, pairwise
from compacter_core.conformance.generate.draw import dyadic_adapter, with_tensors
from compacter_core.conformance.generate.numeric import EVERY_DTYPE, Plan, add
from compacter_core.conformance.generate.questions import Forward
from compacter_core.conformance.generate.source import Source
from compacter_core.conformance.words import Flag
from compacter_core.vocabulary import Activation, ProjectionKind

_TOKENS: Final = 3
_PAIRWISE_SIZES: Final = (Sizes(), Sizes(d=12, k=6, n=3, r=2), Sizes(d=8, k=8, n=4, r=3))
_COMPACTER: Final = Choice(kind=ProjectionKind.LPHM, rule=Rule.SHARED)
_EDGE: Final = frozenset({Flag.EDGE})


def add_forward_cases(builder: Builder) -> None:
    """All of them."""
    for number, choice in enumerate(pairwise()):
        config = choice.config(_PAIRWISE_SIZES[number % len(_PAIRWISE_SIZES)])
        add(builder, _plan(f"forward/{choice.words}", config), question(config))


def question(
    config: AdapterConfig,
    leading: Sequence[int] = (_TOKENS,),
    *,
    exponent: int = 0,
    outputs: tuple[str, ...] = ("delta", "y"),
) -> Callable[[Source], Forward]:
    """Drawn tensors and inputs [*leading, d] at the first site."""

    def make(source: Source) -> Forward:
        shape = (*leading, config.hidden_size)
        return Forward(
            adapter=dyadic_adapter(config, source),
            site=config.sites[0].id,
            x=source.dyadic(shape, exponent),
            skip=source.dyadic(shape, exponent),
            outputs=outputs,
        )

    return make


def _plan(
    case_id: str,
    config: AdapterConfig,
    more: Sequence[str] = (),
    *,
    flags: frozenset[Flag] = frozenset(),
    dtypes: tuple[DType, ...] = EVERY_DTYPE,
    comment: str = "",
    notices: bool = True,
) -> Plan:
    return Plan(
        id=case_id,
        statements=(*statements.forward(config), *statements.FORWARD_BOUNDS, *more),
        flags=flags,
        dtypes=dtypes,
        comment=comment,
        notices=notices,
    )
