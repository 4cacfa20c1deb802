"""Mutants of delta and y that no change of tensors gives."""

from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from compacter_core.adapter import Array, ProjectionParameters, SiteParameters
from compacter_core.conformance.mutation.mutant import Mutant, never
from compacter_core.conformance.mutation.numerics import Numerics
from compacter_core.conformance.mutation.tensors import has_bias_down, has_bias_up, has_rule, scales
from compacter_core.conformance.words import ConformanceClass
from compacter_core.reference.activations import activate
from compacter_core.reference.adapter import delta
from compacter_core.reference.projection import fast_weight, project, rule
from compacter_core.vocabulary import Activation, ProjectionKind, ScalingKind


class SwappedProducts(Numerics):
    """Takes sum_i kron(W_i, A_i)."""

    def delta(self, site: SiteParameters, x: Array) -> Array:
        """With both weights multiplied out wrongly."""
        return super().delta(replace(site, down=_swapped(site.down), up=_swapped(site.up)), x)


class NoSkip(Numerics):
    """Returns delta as y."""

    def forward(self, site: SiteParameters, x: Array, skip: Array) -> Array:
        """Without the skip."""
        return self.delta(site, x)


class InputAsSkip(Numerics):
    """Adds to x instead of skip."""

    def forward(self, site: SiteParameters, x: Array, skip: Array) -> Array:
        """With x in the place of skip."""
        return x + self.delta(site, x)


class ScaledSkip(Numerics):
    """Scales the skip too."""

    def forward(self, site: SiteParameters, x: Array, skip: Array) -> Array:
        """With the scaling around the sum."""
        return site.scaling * skip + self.delta(site, x)


class UnscaledBias(Numerics):
    """Does not scale bu."""

    def delta(self, site: SiteParameters, x: Array) -> Array:
        """With bu behind the scaling."""
        bare = delta(replace(site, up=replace(site.up, b=None)), x)
        return bare if site.up.b is None else bare + site.up.b


class ScaledInput(Numerics):
    """Applies the scaling to x."""

    def delta(self, site: SiteParameters, x: Array) -> Array:
        """With the scaling in front."""
        scaled = site.scaling * x
        return super().delta(replace(site, scaling=1.0), scaled)


class LateBias(Numerics):
    """Adds bd behind the activation."""

    def delta(self, site: SiteParameters, x: Array) -> Array:
        """With bd added to a."""
        a = activate(site.non_linearity, project(replace(site.down, b=None), x))
        late: Array = site.scaling * project(site.up, a if site.down.b is None else a + site.down.b)
        return late


class NanAsZero(Numerics):
    """Loses NaNs."""

    def delta(self, site: SiteParameters, x: Array) -> Array:
        """With 0 for a NaN."""
        return super().delta(site, np.nan_to_num(x, nan=0.0))


class NanEverywhere(Numerics):
    """Lets a NaN spread to all tokens."""

    def delta(self, site: SiteParameters, x: Array) -> Array:
        """NaN if any token has one."""
        right = super().delta(site, x)
        return np.full_like(right, np.nan) if np.isnan(x).any() else right


class MixedTokens(Numerics):
    """Takes the second axis from the end for the last one where both have one length."""

    def delta(self, site: SiteParameters, x: Array) -> Array:
        """With a square of tokens and channels transposed."""
        square = x.ndim > 1 and x.shape[-1] == x.shape[-2]
        return np.swapaxes(super().delta(site, np.swapaxes(x, -1, -2)), -1, -2) if square else super().delta(site, x)


class OverflowingActivation(Numerics):
    """Evaluates activations by formulas that overflow."""

    def delta(self, site: SiteParameters, x: Array) -> Array:
        """NaN where exp(|z|) or z^3 has no place in the type, here for every |z| above 50."""
        z = project(site.down, x)
        bent = site.non_linearity not in (Activation.RELU, Activation.IDENTITY)
        lost = bent & (np.abs(z) > _OVERFLOWING).any(axis=-1, keepdims=True)
        return np.where(lost, np.nan, super().delta(site, x))


_OVERFLOWING: Final = 50.0


def _swapped(p: ProjectionParameters) -> ProjectionParameters:
    if not p.kind.has_rule:
        return p
    W = np.sum([np.kron(W_i, A_i) for A_i, W_i in zip(rule(p), fast_weight(p), strict=True)], axis=0)
    return ProjectionParameters(kind=ProjectionKind.DENSE, W=W, b=p.b)


_mutant: Final = partial(Mutant, classes=frozenset({ConformanceClass.FORWARD}))

OUTPUT_MUTANTS: Final = (
    _mutant("products-swapped", "takes kron(W_i, A_i)", SwappedProducts, has_rule),
    _mutant("no-skip", "does not add the skip", NoSkip, lambda _: True),
    _mutant("input-as-skip", "adds to x instead of skip", InputAsSkip, lambda _: True),
    _mutant("skip-scaled", "scales the skip too", ScaledSkip, scales),
    _mutant("bias-unscaled", "does not scale bu", UnscaledBias, lambda c: has_bias_up(c) and scales(c)),
    _mutant("input-scaled", "applies a channel scaling to x", ScaledInput, lambda c: c.scaling is ScalingKind.CHANNEL),
    _mutant(
        "bias-down-late",
        "adds bd behind the activation",
        LateBias,
        lambda c: has_bias_down(c) and c.non_linearity is not Activation.IDENTITY,
    ),
    _mutant("nan-lost", "takes a NaN for 0", NanAsZero, never),
    _mutant("nan-spread", "lets a NaN spread to other tokens", NanEverywhere, never),
    _mutant("tokens-mixed", "mixes up tokens and channels of square inputs", MixedTokens, never),
    _mutant("activation-overflows", "returns NaN for large arguments of an activation", OverflowingActivation, never),
)
