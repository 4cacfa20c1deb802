"""Mutants that take a site's tensors for something else; their gradients are those of the wrong function."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from compacter_core.adapter import Adapter, Array, ProjectionParameters, SiteParameters
from compacter_core.config import AdapterConfig
from compacter_core.conformance.mutation.mutant import Mutant
from compacter_core.conformance.mutation.numerics import Numerics
from compacter_core.conformance.words import ConformanceClass
from compacter_core.vocabulary import Activation, ScalingKind

Projection = ProjectionParameters
Change = Callable[[SiteParameters], SiteParameters]

_OUTPUTS: Final = frozenset({ConformanceClass.FORWARD, ConformanceClass.PLACEMENT})
_NUMBERS: Final = _OUTPUTS | {ConformanceClass.GRADIENT}

_CONFUSED: Final = (
    (Activation.GELU_NEW, Activation.GELU),
    (Activation.GELU, Activation.GELU_NEW),
    (Activation.GELU_NEW, Activation.SILU),
    (Activation.RELU, Activation.GELU_NEW),
    (Activation.RELU, Activation.IDENTITY),
    (Activation.SILU, Activation.RELU),
    (Activation.SILU, Activation.GELU),
    (Activation.TANH, Activation.IDENTITY),
    (Activation.IDENTITY, Activation.RELU),
    (Activation.IDENTITY, Activation.TANH),
)


class ChangedSite(Numerics):
    """A right implementation that gets the tensors of a site changed."""

    def __init__(self, change: Change) -> None:
        self._change = change

    def site(self, adapter: Adapter, site_id: str) -> SiteParameters:
        """The changed site."""
        return self._change(super().site(adapter, site_id))


class OtherSite(Numerics):
    """Takes the tensors of the adapter's next site."""

    def site(self, adapter: Adapter, site_id: str) -> SiteParameters:
        """The next site's tensors."""
        ids = [site.id for site in adapter.config.sites]
        return super().site(adapter, ids[(ids.index(site_id) + 1) % len(ids)])


def _transpose(p: Projection) -> Projection:
    if p.phm_rule is not None:
        return replace(p, phm_rule=np.swapaxes(p.phm_rule, 1, 2))
    if p.phm_rule_left is None or p.phm_rule_right is None:
        return p
    left, right = np.swapaxes(p.phm_rule_right, 1, 2), np.swapaxes(p.phm_rule_left, 1, 2)
    return replace(p, phm_rule_left=left, phm_rule_right=right)


def _mapped(p: Projection, names: tuple[str, ...], change: Callable[[Array], Array]) -> Projection:
    """The projection with those of the named tensors changed that it has."""
    present = {name: getattr(p, name) for name in names}
    changed: dict[str, Any] = {name: change(array) for name, array in present.items() if array is not None}
    return replace(p, **changed)


def _reverse(p: Projection) -> Projection:
    return (
        _mapped(p, ("phm_rule", "phm_rule_left"), lambda A: A[::-1])
        if p.phm_rule_right is None
        else _mapped(p, ("phm_rule_left", "phm_rule_right"), lambda A: A[::-1])
    )


def _divide(p: Projection) -> Projection:
    return _mapped(p, ("phm_rule", "phm_rule_left"), lambda A: A / len(A))


def _first_rank(p: Projection) -> Projection:
    return _mapped(p, ("W_left",), lambda s: s * (np.arange(s.shape[-1]) == 0))


def _first_summand(p: Projection) -> Projection:
    keep = ("phm_rule", "phm_rule_left")
    return _mapped(p, keep, lambda A: A * (np.arange(len(A)) == 0)[:, None, None])


def _without_bias(p: Projection) -> Projection:
    return _mapped(p, ("b",), np.zeros_like)


def _exchange_rules(site: SiteParameters) -> SiteParameters:
    names = ("phm_rule", "phm_rule_left", "phm_rule_right")
    rules = [{name: getattr(p, name) for name in names} for p in (site.down, site.up)]
    return replace(site, down=replace(site.down, **rules[1]), up=replace(site.up, **rules[0]))


def _without_scaling(site: SiteParameters) -> SiteParameters:
    scaling = np.ones_like(site.scaling) if isinstance(site.scaling, np.ndarray) else 1.0
    return replace(site, scaling=scaling)


def _both(change: Callable[[Projection], Projection]) -> Change:
    return lambda site: replace(site, down=change(site.down), up=change(site.up))


def _up(change: Callable[[Projection], Projection]) -> Change:
    return lambda site: replace(site, up=change(site.up))


def _down(change: Callable[[Projection], Projection]) -> Change:
    return lambda site: replace(site, down=change(site.down))


def _with_activation(right: Activation, wrong: Activation) -> Change:
    return lambda site: replace(site, non_linearity=wrong) if site.non_linearity is right else site


def has_rule(config: AdapterConfig) -> bool:
    """Whether there is an A of more than one summand."""
    return (config.projection.phm_dim or 1) > 1


def has_ranks(config: AdapterConfig) -> bool:
    """Whether factored weights have a rank above 1."""
    return (config.projection.phm_rank or 1) > 1


def owns_rule(config: AdapterConfig) -> bool:
    """Whether each projection has an A of its own."""
    return has_rule(config) and not config.projection.shared_phm_rule


def scales(config: AdapterConfig) -> bool:
    """Whether there is a scaling other than 1."""
    return config.scaling != 1.0


def sites_differ(config: AdapterConfig) -> bool:
    """Whether there are several sites that do not share everything."""
    own = not config.projection.shared_W or owns_rule(config) or config.bias_down or config.bias_up
    return len(config.sites) > 1 and (own or isinstance(config.scaling, ScalingKind))


def has_bias_down(config: AdapterConfig) -> bool:
    """Whether there is a bd."""
    return config.bias_down


def has_bias_up(config: AdapterConfig) -> bool:
    """Whether there is a bu."""
    return config.bias_up


def _mutant(
    name: str,
    description: str,
    change: Change,
    applies: Callable[[AdapterConfig], bool],
    classes: frozenset[ConformanceClass] = _NUMBERS,
) -> Mutant:
    return Mutant(name, description, partial(ChangedSite, change), applies, classes)


def _confused(right: Activation, wrong: Activation) -> Mutant:
    return _mutant(
        f"{wrong.value.replace('_', '-')}-for-{right.value.replace('_', '-')}",
        f"computes {wrong.value} where the configuration says {right.value}",
        _with_activation(right, wrong),
        lambda config: config.non_linearity is right,
    )


TENSOR_MUTANTS: Final = (
    _mutant("rule-transposed", "takes every A_i transposed", _both(_transpose), has_rule),
    _mutant("rule-transposed-up", "takes A_i transposed in the up-projection only", _up(_transpose), has_rule),
    _mutant("rule-reversed", "pairs A_i with the weight of summand n - 1 - i", _both(_reverse), has_rule),
    _mutant("rule-divided", "divides the Kronecker sum by n", _both(_divide), has_rule),
    _mutant("first-summand-only", "takes only the first Kronecker product", _both(_first_summand), has_rule),
    _mutant(
        "rules-exchanged", "takes the up-projection's rule down and the other way round", _exchange_rules, owns_rule
    ),
    _mutant("first-rank-only", "takes only the first column of W_left", _both(_first_rank), has_ranks),
    # Gradients do not depend on bu, and not much on bd.
    _mutant("no-bias-down", "leaves bd out", _down(_without_bias), has_bias_down, _OUTPUTS),
    _mutant("no-bias-up", "leaves bu out", _up(_without_bias), has_bias_up, _OUTPUTS),
    _mutant("no-scaling", "leaves the scaling out", _without_scaling, scales),
    Mutant("sites-exchanged", "takes the tensors of another site", OtherSite, sites_differ, _NUMBERS),
    *(_confused(right, wrong) for right, wrong in _CONFUSED),
)
