"""Cases of `gradient`: every pair of choices over two sites, and integers, where every sum is exact."""

from collections.abc import Callable, Sequence
from typing import Final

from compacter_core.config import AdapterConfig
from compacter_core.conformance.generate import statements
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import Sizes, pairwise
from compacter_core.conformance.generate.draw import dyadic_adapter
from compacter_core.conformance.generate.numeric import Plan, add
from compacter_core.conformance.generate.questions import Gradient
from compacter_core.conformance.generate.source import Source
from compacter_core.conformance.words import Flag
from compacter_core.vocabulary import ScalingKind

_TOKENS: Final = 2
_SIZES: Final = (Sizes(d=6, k=4, n=2, r=2), Sizes(d=6, k=3, n=3, r=2))


def add_gradient_cases(builder: Builder) -> None:
    """All of them."""
    for number, choice in enumerate(pairwise()):
        config = choice.config(_SIZES[number % len(_SIZES)])
        add(builder, _plan(f"gradient/{choice.words}", config), rounded(config))


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


def _plan(case_id: str, config: AdapterConfig, flags: frozenset[Flag] = frozenset()) -> Plan:
    cited = [*statements.gradient(config), *statements.GRADIENT_BOUNDS]
    if config.projection.shared_phm_rule or config.projection.shared_W:
        cited.append(statements.SUM_BOUND)
    if isinstance(config.scaling, ScalingKind):
        cited.append(statements.SCALING_BOUND)
    return Plan(id=case_id, statements=tuple(cited), flags=flags)
