"""Cases of `gradient`: every pair of choices over two sites, small integers, and edges."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from compacter_core.config import AdapterConfig, Site
from compacter_core.conformance.generate import statements
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import (
    FFN,
    NEXT_FFN,
    SITES,
    Biases,
    Choice,
    Rule,
    Scale,
    Sizes,
    kinds_and_rules,
    pairwise,
)
from compacter_core.conformance.generate.draw import UNITS, dyadic_adapter, integer_adapter, with_tensors
from compacter_core.conformance.generate.numeric import Plan, add
from compacter_core.conformance.generate.questions import Gradient
from compacter_core.conformance.generate.source import Source
from compacter_core.conformance.words import Flag
from compacter_core.vocabulary import Activation, ProjectionKind, ScalingKind

_TOKENS: Final = 2
_SIZES: Final = (Sizes(d=6, k=4, n=2, r=2), Sizes(d=6, k=3, n=3, r=2))
_TINY: Final = Sizes(d=4, k=2, n=2, r=1)
_EXACT: Final = frozenset({Flag.EXACT})
_EDGE: Final = frozenset({Flag.EDGE})
_COMPACTER: Final = Choice(kind=ProjectionKind.LPHM, rule=Rule.SHARED)
_PHM: Final = Choice(kind=ProjectionKind.PHM, rule=Rule.OWN)
_DENSE: Final = Choice(kind=ProjectionKind.DENSE, rule=Rule.NONE)


def add_gradient_cases(builder: Builder) -> None:
    """All of them."""
    for number, choice in enumerate(pairwise()):
        config = choice.config(_SIZES[number % len(_SIZES)])
        add(builder, _plan(f"gradient/{choice.words}", config), rounded(config))
    for kind, rule in kinds_and_rules():
        for activation in (Activation.IDENTITY, Activation.RELU):
            choice = Choice(kind=kind, rule=rule, activation=activation)
            _add_exact(builder, choice)
        choice = Choice(
            kind=kind, rule=rule, shared_W=True, biases=Biases.UP, scale=Scale.CHANNEL, activation=Activation.IDENTITY
        )
        _add_exact(builder, choice)
    _add_edges(builder)
    _add_kink(builder)


def rounded(config: AdapterConfig, leading: Sequence[int] = (_TOKENS,)) -> Callable[[Source], Gradient]:
    """Dyadic values at every site."""

    def make(source: Source) -> Gradient:
        shape = (*leading, config.hidden_size)
        sites = [site.id for site in config.sites]
        return Gradient(
            adapter=dyadic_adapter(config, source),
            x={site: source.dyadic(shape) for site in sites},
            g={site: source.dyadic(shape) for site in sites},
        )

    return make


def integers(config: AdapterConfig) -> Callable[[Source], Gradient]:
    """Units everywhere, at every site."""

    def make(source: Source) -> Gradient:
        shape = (_TOKENS, config.hidden_size)
        sites = [site.id for site in config.sites]
        return Gradient(
            adapter=integer_adapter(config, source),
            x={site: source.integers(shape, UNITS) for site in sites},
            g={site: source.integers(shape, UNITS) for site in sites},
        )

    return make


def _add_exact(builder: Builder, choice: Choice) -> None:
    # Two sites would carry the sums of a factored rule beyond 256.
    factored = choice.rule in (Rule.SHARED_FACTORED, Rule.OWN_FACTORED)
    config = choice.config(_TINY, sites=(FFN,) if factored else SITES)
    add(builder, _plan(f"gradient/exact/{choice.words}", config, flags=_EXACT), integers(config))


def _add_edges(builder: Builder) -> None:
    for word, choice, sizes, leading, comment in (
        ("one-summand", _COMPACTER, Sizes(d=6, k=4, n=1, r=2), (2,), "n = 1"),
        ("n-equals-d", _COMPACTER, Sizes(d=4, k=4, n=4, r=1), (2,), "n = d = k: blocks of one element"),
        ("wide-bottleneck", _PHM, Sizes(d=4, k=6, n=2), (2,), "k > d"),
        ("high-rank", _COMPACTER, Sizes(d=4, k=2, n=2, r=3), (2,), "r is larger than the sides of a block"),
        ("rank-1", _COMPACTER, Sizes(d=6, k=4, n=2), (), "one token without leading axes"),
        ("rank-3", _COMPACTER, Sizes(d=6, k=4, n=2), (2, 2), "two leading axes"),
        ("no-token", _COMPACTER, Sizes(d=6, k=4, n=2), (0,), "without tokens all gradients are 0"),
    ):
        config = replace(choice, scale=Scale.LEARNED).config(sizes)
        more = (statements.EMPTY_INPUT,) if 0 in leading else (statements.FREE_SIZES,)
        # One token, or blocks of one element, hide mistakes.
        case = _plan(f"gradient/edge/{word}", config, more, flags=_EDGE, comment=comment, notices=leading == (2, 2))
        add(builder, case, rounded(config, leading))
    config = _COMPACTER.config(Sizes(d=6, k=4))
    case = _plan("gradient/edge/one-of-two-sites", config, comment="only the second site is asked for", notices=False)
    add(builder, case, _only(rounded(config), NEXT_FFN))
    config = replace(
        _COMPACTER.config(Sizes(d=6, k=4)),
        sites=(Site(id=FFN, bottleneck_size=4), Site(id=NEXT_FFN, bottleneck_size=2)),
    )
    case = _plan(
        "gradient/edge/widths", config, (statements.FREE_SIZES,), comment="sites with different k", notices=False
    )
    add(builder, case, rounded(config))
    config = _COMPACTER.config(Sizes(d=6, k=4))
    case = _plan("gradient/edge/zero-rule", config, flags=_EDGE, comment="phm_rule is 0", notices=False)
    add(builder, case, _without_rule(rounded(config)))


def _only(make: Callable[[Source], Gradient], site: str) -> Callable[[Source], Gradient]:
    def one(source: Source) -> Gradient:
        question = make(source)
        return replace(question, x={site: question.x[site]}, g={site: question.g[site]})

    return one


def _without_rule(make: Callable[[Source], Gradient]) -> Callable[[Source], Gradient]:
    def zero(source: Source) -> Gradient:
        question = make(source)
        (name,) = [name for name in question.adapter.tensors if name.endswith("phm_rule")]
        rule = np.zeros_like(question.adapter.tensors[name])
        return replace(question, adapter=with_tensors(question.adapter, {name: rule}))

    return zero


def _add_kink(builder: Builder) -> None:
    """Relu at 0: x and -x with the same weights add up to z = 0 in exact arithmetic of any kind."""
    config = replace(_DENSE, activation=Activation.RELU, biases=Biases.NONE).config(_TINY, sites=(FFN,))
    case = _plan(
        "gradient/exact/relu-at-zero",
        config,
        flags=_EXACT,
        comment="every z is 0, where the derivative of relu is 0",
        notices=False,
    )
    add(builder, case, _cancelling(integers(config)))


def _cancelling(make: Callable[[Source], Gradient]) -> Callable[[Source], Gradient]:
    def zero(source: Source) -> Gradient:
        question = make(source)
        name = f"site.{FFN}.down.W"
        W = question.adapter.tensors[name].copy()
        W[1::2] = W[::2]
        x = question.x[FFN].copy()
        x[:, 1::2] = -x[:, ::2]
        return replace(question, adapter=with_tensors(question.adapter, {name: W}), x={FFN: x})

    return zero


def _plan(
    case_id: str,
    config: AdapterConfig,
    more: Sequence[str] = (),
    *,
    flags: frozenset[Flag] = frozenset(),
    comment: str = "",
    notices: bool = True,
) -> Plan:
    cited = [*statements.gradient(config), *more]
    if Flag.EXACT not in flags:
        cited += statements.GRADIENT_BOUNDS
        if config.projection.shared_phm_rule or config.projection.shared_W:
            cited.append(statements.SUM_BOUND)
        if isinstance(config.scaling, ScalingKind):
            cited.append(statements.SCALING_BOUND)
    return Plan(id=case_id, statements=tuple(cited), flags=flags, comment=comment, notices=notices)
