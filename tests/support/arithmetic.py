"""Arithmetic in which every operation is rounded, contractions and activations in it."""

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from compacter_core.adapter import Array, DType
from compacter_core.vocabulary import Activation
from tests.support.arrays import round_to


class Arithmetic(Protocol):
    """What happens to a result."""

    def store(self, value: Array) -> Array:
        """The value after it was stored."""

    def accumulate(self, value: Array) -> Array:
        """The value as a partial sum, or as a product within a sum."""

    def elementary(self, value: Array, units: float) -> Array:
        """The value of exp, tanh or erf, which may be wrong by `units` of the roundoff."""


@dataclass(frozen=True)
class Rounded:
    """Real rounding to nearest; elementary functions are wrong at random within their allowance."""

    storage: DType
    accumulation: DType
    generator: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def store(self, value: Array) -> Array:
        return round_to(value, self.storage).astype(np.float64)

    def accumulate(self, value: Array) -> Array:
        return round_to(value, self.accumulation).astype(np.float64)

    def elementary(self, value: Array, units: float) -> Array:
        off = self.generator.choice([-1.0, 1.0], size=np.shape(value)) * (units - 1) * self.storage.roundoff
        return self.store(value * (1 + off))


@dataclass(frozen=True)
class Drifting:
    """The worst the model allows: every result too large by its full roundoff, so that nothing averages out."""

    storage: DType
    accumulation: DType

    def store(self, value: Array) -> Array:
        return value * (1 + self.storage.roundoff)

    def accumulate(self, value: Array) -> Array:
        return value * (1 + self.accumulation.roundoff)

    def elementary(self, value: Array, units: float) -> Array:
        return value * (1 + units * self.storage.roundoff)


def contract(arithmetic: Arithmetic, letters: str, left: Array, right: Array) -> Array:
    """An einsum of two operands whose sums are taken term by term, in order."""
    inputs, out = letters.split("->")
    summed = "".join(sorted(set(inputs) - set(out) - {","}))
    products = arithmetic.accumulate(np.einsum(f"{inputs}->{out}{summed}", left, right))
    if not summed:
        return arithmetic.store(products)
    shape = products.shape[: len(out)]
    terms = products.reshape(*shape, int(np.prod(products.shape[len(out) :])))
    total = terms[..., 0] if terms.shape[-1] else np.zeros(shape)
    for k in range(1, terms.shape[-1]):
        total = arithmetic.accumulate(total + terms[..., k])
    return arithmetic.store(total)


def activation(arithmetic: Arithmetic, kind: Activation, z: Array) -> Array:
    """The activation as a chain of stored operations, its elementary function wrong by up to 8 u."""
    store = arithmetic.store
    match kind:
        case Activation.GELU_NEW:
            half = store(0.5 * z)
            value = store(half * store(1 + arithmetic.elementary(np.tanh(_gelu_argument(arithmetic, z)), 8)))
        case Activation.GELU:
            half = store(0.5 * z)
            argument = store(z * store(np.asarray(np.sqrt(0.5))))
            value = store(half * store(1 + arithmetic.elementary(_erf(argument), 8)))
        case Activation.RELU:
            value = np.maximum(z, 0)
        case Activation.SILU:
            value = store(z * store(1 / store(1 + arithmetic.elementary(np.exp(-z), 8))))
        case Activation.TANH:
            value = arithmetic.elementary(np.tanh(z), 8)
        case Activation.IDENTITY:
            value = z
    return value


def activation_derivative(arithmetic: Arithmetic, kind: Activation, z: Array) -> Array:
    """The derivative as a chain of stored operations, its elementary functions wrong by up to 2 u."""
    store = arithmetic.store
    match kind:
        case Activation.GELU_NEW:
            tanh = _saturating(arithmetic, np.tanh(_gelu_argument(arithmetic, z)))
            square = store(z * z)
            inner = store(1 + store(store(np.asarray(3 * 0.044715)) * square))
            slope = store(store(np.asarray(np.sqrt(2 / np.pi))) * inner)
            rest = store(store(store(0.5 * z) * slope) * store(1 - store(tanh * tanh)))
            value = store(store(0.5 * store(1 + tanh)) + rest)
        case Activation.GELU:
            argument = store(z * store(np.asarray(np.sqrt(0.5))))
            density = arithmetic.elementary(np.exp(-store(store(z * z) * 0.5)), 2)
            rest = store(store(z * density) * store(np.asarray(1 / np.sqrt(2 * np.pi))))
            value = store(store(0.5 * store(1 + _saturating(arithmetic, _erf(argument)))) + rest)
        case Activation.RELU:
            value = (z > 0).astype(np.float64)
        case Activation.SILU:
            sigmoid = store(1 / store(1 + arithmetic.elementary(np.exp(-z), 2)))
            value = store(sigmoid * store(1 + store(z * store(1 - sigmoid))))
        case Activation.TANH:
            tanh = _saturating(arithmetic, np.tanh(z))
            value = store(1 - store(tanh * tanh))
        case Activation.IDENTITY:
            value = np.ones_like(z)
    return value


def _saturating(arithmetic: Arithmetic, value: Array) -> Array:
    """An elementary function that is exactly +-1 where that is its nearest value."""
    stored = arithmetic.store(value)
    return np.where(np.abs(stored) == 1, stored, np.clip(arithmetic.elementary(value, 2), -1, 1))


def _gelu_argument(arithmetic: Arithmetic, z: Array) -> Array:
    store = arithmetic.store
    cube = store(store(z * z) * z)
    inner = store(z + store(store(np.asarray(0.044715)) * cube))
    return store(store(np.asarray(np.sqrt(2 / np.pi))) * inner)


def _erf(w: Array) -> Array:
    value: Array = np.vectorize(math.erf, otypes=[np.float64])(w)
    return value
