"""Small configurations for the vectors: every choice of the family, and selections that have every pair of choices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, product
from typing import Final

from compacter_core.config import AdapterConfig, Attach, Projection, Site
from compacter_core.vocabulary import Activation, ProjectionKind, ScalingKind

FFN: Final = "encoder.0.ffn"
NEXT_FFN: Final = "encoder.1.ffn"
SITES: Final = (FFN, NEXT_FFN)


class Rule(StrEnum):
    """Where a projection's rule comes from; the value is a word of case ids."""

    NONE = "no-rule"
    SHARED = "shared-rule"
    OWN = "own-rule"
    SHARED_FACTORED = "shared-factored-rule"
    OWN_FACTORED = "own-factored-rule"


class Biases(StrEnum):
    """Which biases there are; the value is a word of case ids."""

    BOTH = "both-biases"
    DOWN = "bias-down"
    UP = "bias-up"
    NONE = "no-bias"


class Scale(StrEnum):
    """The scaling; the value is a word of case ids."""

    ONE = "scaling-one"
    NUMBER = "scaling-number"
    LEARNED = "scaling-learned"
    CHANNEL = "scaling-channel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """d, k, n and r."""

    d: int = 8
    k: int = 4
    n: int = 2
    r: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One configuration as the choices that a case id spells out.

    Args:
        kind: of the projections.
        rule: where A comes from.
        shared_W: whether sites share their fast weights.
        biases: which there are.
        scale: the scaling.
        activation: the activation.
    """

    kind: ProjectionKind
    rule: Rule
    shared_W: bool = False
    biases: Biases = Biases.BOTH
    scale: Scale = Scale.ONE
    activation: Activation = Activation.GELU_NEW

    @property
    def words(self) -> str:
        """The choices as the end of a case id."""
        weights = "shared-w" if self.shared_W else "own-w"
        parts = (self.activation.value, self.scale.value, self.biases.value, weights)
        return f"{self.kind.value}/{self.rule.value}/" + ".".join(parts)

    def config(
        self,
        sizes: Sizes | None = None,
        *,
        sites: Sequence[str] = SITES,
        number: float = -0.75,
        attach: Attach | None = None,
        site_attach: Attach | None = None,
    ) -> AdapterConfig:
        """The configuration with these choices.

        Args:
            sizes: d, k, n and r.
            sites: ids of the sites.
            number: the scaling, if it is a number.
            attach: placement, where it matters.
            site_attach: the sites' own placement.
        """
        sizes = sizes or Sizes()
        kind = self.kind
        scaling: dict[Scale, float | ScalingKind] = {
            Scale.ONE: 1.0,
            Scale.NUMBER: number,
            Scale.LEARNED: ScalingKind.LEARNED,
            Scale.CHANNEL: ScalingKind.CHANNEL,
        }
        return AdapterConfig(
            method="vector",
            name="vector",
            hidden_size=sizes.d,
            projection=Projection(
                kind=kind,
                phm_dim=sizes.n if kind.has_rule else None,
                phm_rank=sizes.r if kind.has_rank else None,
                shared_phm_rule=self.rule in (Rule.SHARED, Rule.SHARED_FACTORED),
                factorized_phm_rule=self.rule in (Rule.SHARED_FACTORED, Rule.OWN_FACTORED),
                shared_W=self.shared_W,
            ),
            sites=tuple(Site(id=site, bottleneck_size=sizes.k, attach=site_attach) for site in sites),
            non_linearity=self.activation,
            bias_down=self.biases in (Biases.BOTH, Biases.DOWN),
            bias_up=self.biases in (Biases.BOTH, Biases.UP),
            scaling=scaling[self.scale],
            attach=attach or Attach(),
        )


def kinds_and_rules() -> Iterator[tuple[ProjectionKind, Rule]]:
    """Every kind with every rule that it can have."""
    for kind in ProjectionKind:
        for rule in Rule:
            if kind.has_rule != (rule is Rule.NONE):
                yield kind, rule


def pairwise(activations: Sequence[Activation] = tuple(Activation)) -> list[Choice]:
    """Choices among which every pair of values of two different settings occurs.

    Greedy: of all choices, again and again the first one that has most pairs which did not occur yet.
    """
    everything = [
        Choice(kind=kind, rule=rule, shared_W=shared, biases=biases, scale=scale, activation=activation)
        for (kind, rule), shared, biases, scale, activation in product(
            kinds_and_rules(), (False, True), Biases, Scale, activations
        )
    ]
    pairs = {choice: frozenset(_pairs(choice)) for choice in everything}
    missing = set().union(*pairs.values())
    chosen = []
    while missing:
        best = max(everything, key=lambda choice: len(pairs[choice] & missing))
        chosen.append(best)
        missing -= pairs[best]
    return chosen


def _pairs(choice: Choice) -> Iterator[tuple[tuple[str, str], ...]]:
    settings = {
        "weight": f"{choice.kind}/{choice.rule}",
        "shared_W": str(choice.shared_W),
        "biases": choice.biases.value,
        "scale": choice.scale.value,
        "activation": choice.activation.value,
    }
    return combinations(settings.items(), 2)
