"""Mutants of the gradients."""

from functools import partial
from typing import Final

import numpy as np

from compacter_core.config import AdapterConfig
from compacter_core.conformance.mutation.gradient_changes import (
    OTHER_GELU,
    ChangedProjection,
    ChangedScaling,
    ChangedShares,
    ChangedSlope,
    UnscaledCotangent,
    WithSkip,
    averaged_bias,
    first_token,
    is_shared_rule,
    of_first_token,
    ranks_reversed,
    rule_gradient_transposed,
    rules_exchanged,
    weight_with_transposed_rule,
    without,
)
from compacter_core.conformance.mutation.mutant import Mutant, never
from compacter_core.conformance.mutation.tensors import has_ranks, has_rule, owns_rule, scales
from compacter_core.conformance.words import ConformanceClass
from compacter_core.layout import Side
from compacter_core.reference.activations import activate, derivative
from compacter_core.vocabulary import Activation, ScalingKind


def _shares_rule(config: AdapterConfig) -> bool:
    return config.projection.shared_phm_rule


def _sites_share(config: AdapterConfig) -> bool:
    return len(config.sites) > 1 and (config.projection.shared_phm_rule or config.projection.shared_W)


def _trained_scaling(config: AdapterConfig) -> bool:
    return isinstance(config.scaling, ScalingKind)


def _has_bias(config: AdapterConfig) -> bool:
    return config.bias_down or config.bias_up


def _is_smooth(config: AdapterConfig) -> bool:
    return config.non_linearity not in (Activation.RELU, Activation.IDENTITY)


_mutant: Final = partial(Mutant, classes=frozenset({ConformanceClass.GRADIENT}))

GRADIENT_MUTANTS: Final = (
    _mutant(
        "slope-missing",
        "leaves act' out",
        partial(ChangedSlope, lambda _, z: np.ones_like(z)),
        lambda c: c.non_linearity is not Activation.IDENTITY,
    ),
    _mutant(
        "slope-of-other-gelu",
        "takes the derivative of the other GELU",
        partial(ChangedSlope, lambda kind, z: derivative(OTHER_GELU.get(kind, kind), z)),
        lambda c: c.non_linearity in OTHER_GELU,
    ),
    _mutant(
        "slope-of-output",
        "takes act' of act(z) instead of z",
        partial(ChangedSlope, lambda kind, z: derivative(kind, activate(kind, z))),
        _is_smooth,
    ),
    _mutant(
        "relu-slope-at-zero",
        "takes 1 for the derivative of relu at 0",
        partial(ChangedSlope, lambda kind, z: np.where((z == 0) & (kind is Activation.RELU), 1.0, derivative(kind, z))),
        never,
    ),
    _mutant("cotangent-unscaled", "does not scale g", UnscaledCotangent, scales),
    _mutant("skip-in-gradient", "adds g to dx, as if y were asked for", WithSkip, lambda _: True),
    _mutant(
        "scaling-gradient-scaled",
        "takes delta instead of o for the scaling's gradient",
        partial(ChangedScaling, lambda site, g, o: (g, site.scaling * o)),
        _trained_scaling,
    ),
    _mutant(
        "scaling-gradient-of-first-token",
        "does not sum the scaling's gradient over tokens",
        partial(ChangedScaling, lambda _, g, o: (first_token(g), o)),
        _trained_scaling,
    ),
    _mutant(
        "scaling-gradient-averaged",
        "averages a learned scaling's gradient over channels",
        partial(ChangedScaling, lambda _, g, o: (g / g.shape[-1], o)),
        _trained_scaling,
    ),
    _mutant(
        "bias-gradient-of-first-token",
        "does not sum the gradient of a bias over tokens",
        partial(ChangedProjection, of_first_token(lambda name: name == "b")),
        _has_bias,
    ),
    _mutant(
        "bias-gradient-averaged",
        "averages the gradient of a bias over tokens",
        partial(ChangedProjection, averaged_bias),
        _has_bias,
    ),
    _mutant(
        "weight-gradient-of-first-token",
        "does not sum the gradients of weights and rules over tokens",
        partial(ChangedProjection, of_first_token(lambda name: name != "b")),
        lambda _: True,
    ),
    _mutant(
        "rule-gradient-transposed",
        "returns the gradient of A transposed",
        partial(ChangedProjection, rule_gradient_transposed),
        has_rule,
    ),
    _mutant(
        "weight-gradient-with-transposed-rule",
        "contracts the gradients of weights with A transposed",
        partial(ChangedProjection, weight_with_transposed_rule),
        has_rule,
    ),
    _mutant(
        "left-gradient-reversed",
        "contracts the gradient of W_left with the ranks of W_right in reverse",
        partial(ChangedProjection, ranks_reversed("W_left")),
        has_ranks,
    ),
    _mutant(
        "right-gradient-reversed",
        "contracts the gradient of W_right with the ranks of W_left in reverse",
        partial(ChangedProjection, ranks_reversed("W_right")),
        has_ranks,
    ),
    _mutant(
        "rule-gradient-of-down",
        "gives a shared rule the gradient of the down-projections only",
        partial(ChangedShares, lambda all_: without(all_, lambda s: is_shared_rule(s) and s.side is Side.UP)),
        _shares_rule,
    ),
    _mutant(
        "rule-gradient-of-up",
        "gives a shared rule the gradient of the up-projections only",
        partial(ChangedShares, lambda all_: without(all_, lambda s: is_shared_rule(s) and s.side is Side.DOWN)),
        _shares_rule,
    ),
    _mutant(
        "shared-gradient-of-first-site",
        "gives shared tensors the gradient of the first site only",
        partial(ChangedShares, lambda all_: without(all_, lambda s: s.name.startswith("shared.") and s.site > 0)),
        _sites_share,
    ),
    _mutant(
        "rule-gradients-exchanged",
        "exchanges the gradients of a site's two rules",
        partial(ChangedShares, rules_exchanged),
        owns_rule,
    ),
)
