"""The six activations of the family and their derivatives, elementwise, in the type of the argument.

    gelu_new(z) = z/2 (1 + tanh w(z)),   w(z) = sqrt(2/pi) (z + 0.044715 z^3)
    gelu(z)     = z Phi(z),              Phi(z) = (1 + erf(z / sqrt 2)) / 2
    relu(z)     = max(z, 0)
    silu(z)     = z sigmoid(z)
    tanh(z), identity(z) = z

gelu_new is the approximation used by the paper's configurations (Hendrycks and Gimpel, 2016). Since
(1 + tanh w)/2 = sigmoid(2 w), it is evaluated as z sigmoid(2 w), which keeps its small values for negative z accurate.

All but gelu also take complex arguments near the real axis, so that derivatives can be checked by complex steps.
"""

import math
from typing import Final

import numpy as np

from compacter_core.adapter import Array
from compacter_core.vocabulary import Activation

_GELU_SCALE: Final = math.sqrt(2.0 / math.pi)
_GELU_CUBIC: Final = 0.044715

# Beyond this w saturates the sigmoid to exactly 0 or 1, even in extended precision, and z^3 cannot overflow before it.
_SATURATED: Final = 64.0

_erfc = np.frompyfunc(math.erfc, 1, 1)


def activate(kind: Activation, z: Array) -> Array:
    """The activation of `z` (FWD-14 to FWD-20), of the same shape and type.

    Args:
        kind: which one.
        z: any shape, floating (or complex, except for gelu, which is evaluated in float64).
    """
    value: Array
    match kind:
        case Activation.GELU_NEW:
            value = z * _sigmoid(2 * _gelu_argument(z)[0])
        case Activation.GELU:
            value = z * _normal_cdf(z)
        case Activation.RELU:
            # Not np.maximum: a NaN must pass, and a complex number is judged by its real part.
            value = np.where(z.real <= 0, z.dtype.type(0), z)
        case Activation.SILU:
            value = z * _sigmoid(z)
        case Activation.TANH:
            value = np.asarray(np.tanh(z))
        case Activation.IDENTITY:
            value = z
    return value


def derivative(kind: Activation, z: Array) -> Array:
    """The derivative of the activation at `z`, of the same shape and type; relu's at 0 is 0 (GRD-11).

    With q = sigmoid(2 w): gelu_new' = q + 2 z w' q (1 - q). With q = sigmoid(z): silu' = q + z q (1 - q).
    gelu' = Phi(z) + z phi(z), phi the normal density.
    """
    value: Array
    match kind:
        case Activation.GELU_NEW:
            w, slope = _gelu_argument(z)
            bounded = np.clip(z, -_SATURATED, _SATURATED)
            value = _sigmoid(2 * w) + 2 * bounded * slope * _sigmoid(2 * w) * _sigmoid(-2 * w)
        case Activation.GELU:
            bounded = np.clip(z, -_SATURATED, _SATURATED)
            density = np.exp(-bounded * bounded / 2) / z.dtype.type(math.sqrt(2.0 * math.pi))
            value = _normal_cdf(z) + bounded * density
        case Activation.RELU:
            value = np.where(np.isnan(z), z, (z > 0).astype(z.dtype))
        case Activation.SILU:
            value = _sigmoid(z) + z * _sigmoid(z) * _sigmoid(-z)
        case Activation.TANH:
            value = np.asarray(1 - np.tanh(z) ** 2)
        case Activation.IDENTITY:
            value = np.ones_like(z)
    return value


def _gelu_argument(z: Array) -> tuple[Array, Array]:
    """w(z) and w'(z), with z held where the sigmoid of 2 w is saturated."""
    bounded = np.clip(z, -_SATURATED, _SATURATED)
    w = _GELU_SCALE * (bounded + _GELU_CUBIC * bounded * bounded * bounded)
    slope = _GELU_SCALE * (1 + 3 * _GELU_CUBIC * bounded * bounded)
    return w, slope


def _sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), without overflow: exp is only taken of numbers whose real part is not positive."""
    positive = z.real >= 0
    small = np.exp(np.where(positive, -z, z))
    value: Array = np.where(positive, z.dtype.type(1), small) / (1 + small)
    return value


def _normal_cdf(z: Array) -> Array:
    """Phi(z) = erfc(-z / sqrt 2) / 2, accurate for negative z too; evaluated in float64."""
    tail = np.asarray(_erfc(-z.astype(np.float64) * math.sqrt(0.5)), dtype=np.float64)
    return (tail / 2).astype(z.dtype)
