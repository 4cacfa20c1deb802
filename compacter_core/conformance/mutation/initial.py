"""Mutants of initial values and of counts."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod, sqrt
from typing import Final

import numpy as np

from compacter_core.adapter import Array
from compacter_core.config import AdapterConfig
from compacter_core.conformance.mutation.mutant import Mutant
from compacter_core.conformance.mutation.numerics import Numerics
from compacter_core.conformance.mutation.tensors import has_rule
from compacter_core.conformance.words import ConformanceClass
from compacter_core.layout import RULE, adapter_layout, head_layout
from compacter_core.reference.initialise import OWN_RULE_STD, SHARED_RULE_STD, default_rule_std
from compacter_core.vocabulary import ProjectionKind, ScalingKind

Redraw = Callable[[AdapterConfig, str, Array, np.random.Generator], Array]


class ChangedDraw(Numerics):
    """Changes each tensor; the function gets the configuration, the short name, the right draw and the generator."""

    def __init__(self, change: Redraw) -> None:
        self._change = change

    def draw(self, config: AdapterConfig, generator: np.random.Generator) -> dict[str, Array]:
        """The changed tensors."""
        right = super().draw(config, generator)
        return {name: self._change(config, name.rsplit(".", 1)[1], array, generator) for name, array in right.items()}


class EqualDraws(Numerics):
    """Gives every draw the same values."""

    def initialise(self, config: AdapterConfig, seed: int, draws: int) -> dict[str, Array]:
        """One draw, repeated."""
        return {name: np.repeat(array, draws, axis=0) for name, array in super().initialise(config, seed, 1).items()}


class IgnoredSeed(Numerics):
    """Takes the same seed always."""

    def generator(self, seed: int) -> np.random.Generator:
        """A source that does not depend on the seed."""
        return np.random.default_rng(0)


class ForgottenSeed(Numerics):
    """Takes another seed each time."""

    def generator(self, seed: int) -> np.random.Generator:
        """A source that nobody can repeat."""
        return np.random.default_rng()


class ChangedCount(Numerics):
    """Counts something else."""

    def __init__(self, count: Callable[[AdapterConfig], int]) -> None:
        self._count = count

    def count(self, config: AdapterConfig) -> int:
        """The wrong number."""
        return self._count(config)


def _is_random(short: str) -> bool:
    return short not in ("b", "scaling")


def _is_uniform(config: AdapterConfig, short: str) -> bool:
    return short.startswith("W") and config.projection.kind.has_rule


def _doubled(_: AdapterConfig, short: str, right: Array, __: np.random.Generator) -> Array:
    return 2 * right if _is_random(short) else right


def _normal(config: AdapterConfig, short: str, right: Array, generator: np.random.Generator) -> Array:
    if not _is_uniform(config, short):
        return right
    return generator.normal(0.0, sqrt(4.0 / (right.shape[-2] + right.shape[-1])), right.shape)


def _uniform(config: AdapterConfig, short: str, right: Array, generator: np.random.Generator) -> Array:
    if not _is_random(short) or _is_uniform(config, short):
        return right
    std = _normal_std(config, short)
    return generator.uniform(-sqrt(3) * std, sqrt(3) * std, right.shape)


def _normal_std(config: AdapterConfig, short: str) -> float:
    if short.startswith(RULE):
        std = default_rule_std(config.projection)
        return std if short == RULE else sqrt(std)
    low_rank = config.projection.kind is ProjectionKind.LOW_RANK
    return sqrt(0.01 / sqrt(config.projection.phm_rank or 1)) if low_rank else 0.01


def _without_gain(config: AdapterConfig, short: str, right: Array, _: np.random.Generator) -> Array:
    return right / sqrt(2) if _is_uniform(config, short) else right


def _of_projection(config: AdapterConfig, short: str, right: Array, _: np.random.Generator) -> Array:
    """Xavier of all summands' rows and columns together."""
    return right / sqrt(config.projection.phm_dim or 1) if _is_uniform(config, short) else right


def _other_rule(config: AdapterConfig, short: str, right: Array, _: np.random.Generator) -> Array:
    if not short.startswith(RULE):
        return right
    ratio = OWN_RULE_STD / SHARED_RULE_STD if config.projection.shared_phm_rule else SHARED_RULE_STD / OWN_RULE_STD
    return right * (ratio if short == RULE else sqrt(ratio))


def _factors_as_rule(config: AdapterConfig, short: str, right: Array, _: np.random.Generator) -> Array:
    is_factor = short.startswith(RULE) and short != RULE
    return right * sqrt(default_rule_std(config.projection)) if is_factor else right


def _factors_as_dense(config: AdapterConfig, short: str, right: Array, _: np.random.Generator) -> Array:
    if config.projection.kind is not ProjectionKind.LOW_RANK or not short.startswith("W"):
        return right
    return right * 0.01 / _normal_std(config, short)


def _random_biases(_: AdapterConfig, short: str, right: Array, generator: np.random.Generator) -> Array:
    return generator.normal(0.0, 0.01, right.shape) if short == "b" else right


def _zero_scaling(_: AdapterConfig, short: str, right: Array, __: np.random.Generator) -> Array:
    return np.zeros_like(right) if short == "scaling" else right


def _shifted(_: AdapterConfig, short: str, right: Array, __: np.random.Generator) -> Array:
    return np.abs(right) if _is_random(short) else right


def _scalars(config: AdapterConfig, times: Callable[[str, tuple[int, ...]], int]) -> int:
    return sum(times(name, shape) * prod(shape) for name, shape in adapter_layout(config).items())


def _multiplied_out(config: AdapterConfig) -> int:
    projection = replace(
        config.projection,
        kind=ProjectionKind.DENSE,
        phm_dim=None,
        phm_rank=None,
        shared_phm_rule=False,
        factorized_phm_rule=False,
    )
    return Numerics().count(replace(config, projection=projection))


def _is_shared(name: str) -> bool:
    return name.startswith("shared.")


def _initial(name: str, description: str, numerics: Callable[[], Numerics]) -> Mutant:
    return Mutant(name, description, numerics, lambda _: True, frozenset({ConformanceClass.INITIALISATION}))


def _counted(
    name: str,
    description: str,
    count: Callable[[AdapterConfig], int],
    applies: Callable[[AdapterConfig], bool],
) -> Mutant:
    return Mutant(name, description, partial(ChangedCount, count), applies, frozenset({ConformanceClass.READER}))


INITIAL_MUTANTS: Final = (
    _initial("deviation-doubled", "draws everything twice as wide", partial(ChangedDraw, _doubled)),
    _initial("normal-for-uniform", "draws the weights of Kronecker sums normal", partial(ChangedDraw, _normal)),
    _initial("uniform-for-normal", "draws uniform what is normal", partial(ChangedDraw, _uniform)),
    _initial("gain-missing", "leaves the gain sqrt 2 out", partial(ChangedDraw, _without_gain)),
    _initial(
        "xavier-of-projection", "takes the projection's size for a summand's", partial(ChangedDraw, _of_projection)
    ),
    _initial(
        "rule-deviations-exchanged", "draws a shared A as an own one and reverse", partial(ChangedDraw, _other_rule)
    ),
    _initial("factors-as-rule", "draws the factors of A as A", partial(ChangedDraw, _factors_as_rule)),
    _initial("factors-as-dense", "draws low-rank factors as a dense weight", partial(ChangedDraw, _factors_as_dense)),
    _initial("biases-random", "draws biases", partial(ChangedDraw, _random_biases)),
    _initial("scaling-zero", "begins trained scalings at 0", partial(ChangedDraw, _zero_scaling)),
    _initial("never-negative", "takes magnitudes", partial(ChangedDraw, _shifted)),
    _initial("draws-equal", "gives every draw the same values", EqualDraws),
    _initial("seed-ignored", "gives every seed the same values", IgnoredSeed),
    _initial("seed-forgotten", "gives one seed different values", ForgottenSeed),
)

COUNT_MUTANTS: Final = (
    _counted(
        "shared-counted-per-site",
        "counts shared tensors once for each site",
        lambda c: _scalars(c, lambda name, _: len(c.sites) if _is_shared(name) else 1),
        lambda c: c.projection.shared_phm_rule or c.projection.shared_W,
    ),
    _counted(
        "rule-not-counted",
        "leaves A out",
        lambda c: _scalars(c, lambda name, _: int(RULE not in name)),
        has_rule,
    ),
    _counted(
        "biases-not-counted",
        "leaves biases out",
        lambda c: _scalars(c, lambda name, _: int(not name.endswith(".b"))),
        lambda c: c.bias_down or c.bias_up,
    ),
    _counted(
        "scaling-not-counted",
        "leaves trained scalings out",
        lambda c: _scalars(c, lambda name, _: int(not name.endswith(".scaling"))),
        lambda c: isinstance(c.scaling, ScalingKind),
    ),
    _counted(
        "weights-counted-multiplied-out",
        "counts the multiplied-out weights",
        _multiplied_out,
        lambda c: c.projection.kind is not ProjectionKind.DENSE,
    ),
    _counted(
        "head-counted",
        "counts the head too",
        lambda c: Numerics().count(c) + sum(prod(shape) for shape in head_layout(c).values()),
        lambda c: c.head is not None,
    ),
)
