"""Cases of `forward` with drawn values: every pair of choices, and large sizes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from compacter_core.adapter import DType
from compacter_core.config import AdapterConfig
from compacter_core.conformance.generate import statements
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import FFN, Choice, Rule, Sizes, pairwise
from compacter_core.conformance.generate.draw import dyadic_adapter
from compacter_core.conformance.generate.numeric import EVERY_DTYPE, Plan, add
from compacter_core.conformance.generate.questions import Forward
from compacter_core.conformance.generate.source import Source
from compacter_core.conformance.words import Flag
from compacter_core.vocabulary import ProjectionKind

_TOKENS: Final = 3
_PAIRWISE_SIZES: Final = (Sizes(), Sizes(d=12, k=6, n=3, r=2), Sizes(d=8, k=4, n=4, r=2))
_LARGE: Final = (
    (Choice(kind=ProjectionKind.DENSE, rule=Rule.NONE), Sizes(d=256, k=16)),
    (Choice(kind=ProjectionKind.LOW_RANK, rule=Rule.NONE), Sizes(d=768, k=24, r=1)),
    (Choice(kind=ProjectionKind.PHM, rule=Rule.OWN), Sizes(d=768, k=24, n=12)),
    (Choice(kind=ProjectionKind.LPHM, rule=Rule.SHARED), Sizes(d=768, k=24, n=4, r=1)),
)


def add_forward_cases(builder: Builder) -> None:
    """All of them."""
    for number, choice in enumerate(pairwise()):
        config = choice.config(_PAIRWISE_SIZES[number % len(_PAIRWISE_SIZES)])
        add(builder, plan(f"forward/{choice.words}", config), rounded(config))
    for choice, sizes in _LARGE:
        config = choice.config(sizes, sites=(FFN,))
        case = plan(
            f"forward/large/{choice.kind.value}",
            config,
            flags=frozenset({Flag.LARGE}),
            comment=f"d = {sizes.d}; bounds are loose at this size",
            notices=False,
        )
        add(builder, case, _in_bfloat16(rounded(config, (1,), exponent=-3, outputs=("y",))))


def rounded(
    config: AdapterConfig,
    leading: Sequence[int] = (_TOKENS,),
    *,
    exponent: int = 0,
    outputs: tuple[str, ...] = ("delta", "y"),
) -> Callable[[Source], Forward]:
    """Drawn tensors, and inputs [*leading, d] of about 2^exponent, at the first site."""

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


def plan(
    case_id: str,
    config: AdapterConfig,
    more: Sequence[str] = (),
    *,
    flags: frozenset[Flag] = frozenset(),
    dtypes: tuple[DType, ...] = EVERY_DTYPE,
    comment: str = "",
    notices: bool = True,
) -> Plan:
    """The plan of a forward case; what its configuration tests is cited, and `more`."""
    bounds = () if Flag.EXACT in flags else statements.FORWARD_BOUNDS
    return Plan(
        id=case_id,
        statements=(*statements.forward(config), *bounds, *more),
        flags=flags,
        dtypes=dtypes,
        comment=comment,
        notices=notices,
    )


def _in_bfloat16(make: Callable[[Source], Forward]) -> Callable[[Source], Forward]:
    """The same question with the adapter stored in half the bytes."""

    def small(source: Source) -> Forward:
        question = make(source)
        return replace(question, adapter=replace(question.adapter, dtype=DType.BF16))

    return small
