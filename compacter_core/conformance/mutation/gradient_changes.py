"""Right gradients with one thing changed: the parts that the mutants of `gradients` are made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array, ProjectionParameters, SiteParameters
from compacter_core.conformance.mutation.numerics import Numerics, Share
from compacter_core.layout import RULE, Side
from compacter_core.reference.adapter import Gradients
from compacter_core.vocabulary import Activation

Tensors = Mapping[str, Array]
OTHER_GELU: Final[Mapping[Activation, Activation]] = {
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


def first_token(array: Array) -> Array:
    """All tokens but the first one set to 0."""
    rows = array.reshape(-1, array.shape[-1])
    first: Array = rows * (np.arange(len(rows)) == 0)[:, None]
    return first.reshape(array.shape)


def of_first_token(
    wanted: Callable[[str], bool],
) -> Callable[[ProjectionParameters, Array, Array, Tensors], Tensors]:
    """The gradients of the wanted tensors from the first token alone."""

    def change(p: ProjectionParameters, x: Array, g: Array, right: Tensors) -> Tensors:
        tensors = Numerics().project_vjp(p, x, first_token(g))[1]
        return {name: array for name, array in tensors.items() if wanted(name)}

    return change


def averaged_bias(p: ProjectionParameters, x: Array, g: Array, right: Tensors) -> Tensors:
    """A bias's gradient as a mean over tokens."""
    return {"b": right["b"] * g.shape[-1] / g.size} if "b" in right else {}


def rule_gradient_transposed(p: ProjectionParameters, x: Array, g: Array, right: Tensors) -> Tensors:
    """The gradient of A transposed, or of its factors from that."""
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


def weight_with_transposed_rule(p: ProjectionParameters, x: Array, g: Array, right: Tensors) -> Tensors:
    """The gradients of weights under A transposed."""
    if p.phm_rule is not None:
        other = replace(p, phm_rule=np.swapaxes(p.phm_rule, 1, 2))
    elif p.phm_rule_left is not None and p.phm_rule_right is not None:
        left, right_factor = np.swapaxes(p.phm_rule_right, 1, 2), np.swapaxes(p.phm_rule_left, 1, 2)
        other = replace(p, phm_rule_left=left, phm_rule_right=right_factor)
    else:
        return {}
    tensors = Numerics().project_vjp(other, x, g)[1]
    return {name: array for name, array in tensors.items() if name.startswith("W")}


def ranks_reversed(side: str) -> Callable[[ProjectionParameters, Array, Array, Tensors], Tensors]:
    """The gradient of one factor, its ranks in reverse."""

    def change(p: ProjectionParameters, x: Array, g: Array, right: Tensors) -> Tensors:
        if side not in right:
            return {}
        return {side: right[side][..., ::-1] if side == "W_left" else right[side][..., ::-1, :]}

    return change


def without(shares: list[Share], dropped: Callable[[Share], bool]) -> list[Share]:
    """The shares with 0 in the place of those dropped."""
    return [replace(share, value=np.zeros_like(share.value)) if dropped(share) else share for share in shares]


def is_shared_rule(share: Share) -> bool:
    """Whether it is of a rule that the whole adapter shares."""
    return share.name.startswith(f"shared.{RULE}")


def rules_exchanged(shares: list[Share]) -> list[Share]:
    """Each projection's own rule gets the gradient of its site's other projection."""
    values = {share.name: share.value for share in shares}

    def other(share: Share) -> Array:
        if share.side is None or RULE not in share.name or share.name.startswith("shared."):
            return share.value
        opposite = Side.UP if share.side is Side.DOWN else Side.DOWN
        return values[share.name.replace(f".{share.side}.", f".{opposite}.")]

    return [replace(share, value=other(share)) for share in shares]
