"""Mutants of the gradients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array, ProjectionParameters, SiteParameters
from compacter_core.config import AdapterConfig
from compacter_core.conformance.mutation.mutant import Mutant, never
from compacter_core.conformance.mutation.numerics import Numerics, Share
from compacter_core.conformance.mutation.tensors import has_ranks, has_rule, owns_rule, scales
from compacter_core.conformance.words import ConformanceClass
from compacter_core.layout import RULE, Side
from compacter_core.reference.activations import activate, derivative
from compacter_core.reference.adapter import Gradients
from compacter_core.vocabulary import Activation, ScalingKind

Tensors = Mapping[str, Array]
_OTHER_GELU: Final[Mapping[Activation, Activation]] = {
    Activation.GELU: Activation.GELU_NEW,
    Activation.GELU_NEW: Activation.GELU,
}


class ChangedSlope(Numerics):
    """Takes something else for act'."""

    def __init__(self, slope: Callable[[Activation, Array], Array]) -> None:
        self._slope = slope

    def slope(self, kind: Activation, z: Array) -> Array:
        """The wrong slope."""
        return self._slope(kind, z)


class ChangedProjection(Numerics):
    """Changes the gradients of a projection's tensors; the function gets the projection, x, g and them."""

    def __init__(self, change: Callable[[ProjectionParameters, Array, Array, Tensors], Tensors]) -> None:
        self._change = change

    def project_vjp(self, p: ProjectionParameters, x: Array, g: Array) -> tuple[Array, dict[str, Array]]:
        """The gradients, changed."""
        dx, tensors = super().project_vjp(p, x, g)
        return dx, {**tensors, **self._change(p, x, g, tensors)}


class ChangedShares(Numerics):
    """Changes what is summed."""

    def __init__(self, change: Callable[[list[Share]], list[Share]]) -> None:
        self._change = change

    def shares(
        self, adapter: Adapter, sites: Sequence[str], x: Mapping[str, Array], g: Mapping[str, Array]
    ) -> list[Share]:
        """The changed shares."""
        return self._change(super().shares(adapter, sites, x, g))


class ChangedScaling(Numerics):
    """Changes the gradient of a trained scaling; the function gets the site, g and o."""

    def __init__(self, change: Callable[[SiteParameters, Array, Array], tuple[Array, Array]]) -> None:
        self._change = change

    def scaling_vjp(self, site: SiteParameters, g: Array, o: Array) -> Array | None:
        """The gradient of other values."""
        return super().scaling_vjp(site, *self._change(site, g, o))


class UnscaledCotangent(Numerics):
    """Forgets that g passes the scaling."""

    def scaled(self, site: SiteParameters, g: Array) -> Array:
        """The cotangent as it came."""
        return g


class WithSkip(Numerics):
    """Differentiates y with skip = x."""

    def vjp(self, site: SiteParameters, x: Array, g: Array) -> Gradients:
        """With g added to dx."""
        right = super().vjp(site, x, g)
        return replace(right, dx=right.dx + g)


def _first_token(array: Array) -> Array:
    """All tokens but the first one set to 0."""
    rows = array.reshape(-1, array.shape[-1])
    first: Array = rows * (np.arange(len(rows)) == 0)[:, None]
    return first.reshape(array.shape)


def _first_token_of(
    wanted: Callable[[str], bool],
) -> Callable[[ProjectionParameters, Array, Array, Tensors], Tensors]:
    def change(p: ProjectionParameters, x: Array, g: Array, right: Tensors) -> Tensors:
        tensors = Numerics().project_vjp(p, x, _first_token(g))[1]
        return {name: array for name, array in tensors.items() if wanted(name)}

    return change


def _mean_bias(p: ProjectionParameters, x: Array, g: Array, right: Tensors) -> Tensors:
    return {"b": right["b"] * g.shape[-1] / g.size} if "b" in right else {}


def _rule_gradient_transposed(p: ProjectionParameters, x: Array, g: Array, right: Tensors) -> Tensors:
    if "phm_rule" in right:
        return {"phm_rule": np.swapaxes(right["phm_rule"], 1, 2)}
    if p.phm_rule_left is None or p.phm_rule_right is None:
        return {}
    dense = replace(p, phm_rule=np.matmul(p.phm_rule_left, p.phm_rule_right), phm_rule_left=None, phm_rule_right=None)
    d_rule = Numerics().project_vjp(dense, x, g)[1]["phm_rule"]
    return {
        "phm_rule_left": np.matmul(np.swapaxes(d_rule, 1, 2), np.swapaxes(p.phm_rule_right, 1, 2)),
        "phm_rule_right": np.matmul(np.swapaxes(p.phm_rule_left, 1, 2), np.swapaxes(d_rule, 1, 2)),
    }


def _weight_with_transposed_rule(p: ProjectionParameters, x: Array, g: Array, right: Tensors) -> Tensors:
    if p.phm_rule is not None:
        other = replace(p, phm_rule=np.swapaxes(p.phm_rule, 1, 2))
    elif p.phm_rule_left is not None and p.phm_rule_right is not None:
        left, right_factor = np.swapaxes(p.phm_rule_right, 1, 2), np.swapaxes(p.phm_rule_left, 1, 2)
        other = replace(p, phm_rule_left=left, phm_rule_right=right_factor)
    else:
        return {}
    tensors = Numerics().project_vjp(other, x, g)[1]
    return {name: array for name, array in tensors.items() if name.startswith("W")}


def _ranks_reversed(side: str) -> Callable[[ProjectionParameters, Array, Array, Tensors], Tensors]:
    def change(p: ProjectionParameters, x: Array, g: Array, right: Tensors) -> Tensors:
        if side not in right:
            return {}
        return {side: right[side][..., ::-1] if side == "W_left" else right[side][..., ::-1, :]}

    return change


def _without(shares: list[Share], dropped: Callable[[Share], bool]) -> list[Share]:
    return [replace(share, value=np.zeros_like(share.value)) if dropped(share) else share for share in shares]


def _is_shared_rule(share: Share) -> bool:
    return share.name.startswith(f"shared.{RULE}")


def _rules_exchanged(shares: list[Share]) -> list[Share]:
    """Each projection's own rule gets the gradient of its site's other projection."""
    values = {share.name: share.value for share in shares}

    def other(share: Share) -> Array:
        if share.side is None or RULE not in share.name or share.name.startswith("shared."):
            return share.value
        opposite = Side.UP if share.side is Side.DOWN else Side.DOWN
        return values[share.name.replace(f".{share.side}.", f".{opposite}.")]

    return [replace(share, value=other(share)) for share in shares]


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


def _mutant(
    name: str, description: str, numerics: Callable[[], Numerics], applies: Callable[[AdapterConfig], bool]
) -> Mutant:
    return Mutant(
        name=name,
        description=description,
        classes=frozenset({ConformanceClass.GRADIENT}),
        numerics=numerics,
        applies=applies,
    )


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
        partial(ChangedSlope, lambda kind, z: derivative(_OTHER_GELU.get(kind, kind), z)),
        lambda c: c.non_linearity in _OTHER_GELU,
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
        partial(ChangedScaling, lambda _, g, o: (_first_token(g), o)),
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
        partial(ChangedProjection, _first_token_of(lambda name: name == "b")),
        _has_bias,
    ),
    _mutant(
        "bias-gradient-averaged",
        "averages the gradient of a bias over tokens",
        partial(ChangedProjection, _mean_bias),
        _has_bias,
    ),
    _mutant(
        "weight-gradient-of-first-token",
        "does not sum the gradients of weights and rules over tokens",
        partial(ChangedProjection, _first_token_of(lambda name: name != "b")),
        lambda _: True,
    ),
    _mutant(
        "rule-gradient-transposed",
        "returns the gradient of A transposed",
        partial(ChangedProjection, _rule_gradient_transposed),
        has_rule,
    ),
    _mutant(
        "weight-gradient-with-transposed-rule",
        "contracts the gradients of weights with A transposed",
        partial(ChangedProjection, _weight_with_transposed_rule),
        has_rule,
    ),
    _mutant(
        "left-gradient-reversed",
        "contracts the gradient of W_left with the ranks of W_right in reverse",
        partial(ChangedProjection, _ranks_reversed("W_left")),
        has_ranks,
    ),
    _mutant(
        "right-gradient-reversed",
        "contracts the gradient of W_right with the ranks of W_left in reverse",
        partial(ChangedProjection, _ranks_reversed("W_right")),
        has_ranks,
    ),
    _mutant(
        "rule-gradient-of-down",
        "gives a shared rule the gradient of the down-projections only",
        partial(ChangedShares, lambda all_: _without(all_, lambda s: _is_shared_rule(s) and s.side is Side.UP)),
        _shares_rule,
    ),
    _mutant(
        "rule-gradient-of-up",
        "gives a shared rule the gradient of the up-projections only",
        partial(ChangedShares, lambda all_: _without(all_, lambda s: _is_shared_rule(s) and s.side is Side.DOWN)),
        _shares_rule,
    ),
    _mutant(
        "shared-gradient-of-first-site",
        "gives shared tensors the gradient of the first site only",
        partial(ChangedShares, lambda all_: _without(all_, lambda s: s.name.startswith("shared.") and s.site > 0)),
        _sites_share,
    ),
    _mutant(
        "rule-gradients-exchanged",
        "exchanges the gradients of a site's two rules",
        partial(ChangedShares, _rules_exchanged),
        owns_rule,
    ),
)
