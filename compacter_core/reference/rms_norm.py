"""The root-mean-square norm of T5, Llama and their kin (Zhang and Sennrich, 2019), and its error bound.

N(x) = x / sqrt(mean x^2 + eps) * gain    over the last axis
"""

import numpy as np

from compacter_core.adapter import Array, DType
from compacter_core.reference.rounding import SLACK, Precision


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    """N(x).

    Args:
        x: [..., d].
        gain: [d].
        eps: added to the mean square.

    Returns:
        [..., d]
    """
    y: Array = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * gain
    return y


def rms_norm_bound(
    x: Array, gain: Array, eps: float, *, storage: DType, accumulate: DType, input_error: Array | float = 0.0
) -> Array:
    """Bound for `rms_norm(x, gain, eps)` (NUM-17).

    With X = |x| + E, q = mean x^2 + eps and g = (1 + u_s)^3 (1 + u_a)^(d + 2) - 1:

        mean square   E_q = mean(2 |x| E + E^2) + g (mean X^2 + eps)
        inverse       I = (q - E_q)^(-1/2), and 6 roundings more (infinite if E_q >= q);  E_i = I - q^(-1/2)
        result        |gain| (E I + |x| E_i) + G_4 |gain| X I + 5 eta (1 + |gain|)

    In E_q each square is rounded once, the sum of d squares and its division d + 1 times, the sum with eps once, and
    eps itself once. The 6 roundings of the inverse are those of a root, a reciprocal and their steps, as in NUM-15. The
    result has two products, and the gain and x I may each be rounded once more where a graph casts them.

    Args:
        x: [..., d], as the implementation got it.
        gain: [d].
        eps: added to the mean square.
        storage: type of tensors and results.
        accumulate: type of sums.
        input_error: E, [..., d] or a number.

    Returns:
        float64 [..., d]
    """
    x, gain = x.astype(np.float64), np.abs(gain.astype(np.float64))
    given = np.broadcast_to(np.asarray(input_error, dtype=np.float64), x.shape)
    got = _error(x, gain, eps, given, Precision.of(storage, accumulate))
    own = _error(x, gain, eps, np.zeros_like(given), Precision.of(DType.F64, DType.F64))
    bound: Array = SLACK * (got + own)
    return bound


def _error(x: Array, gain: Array, eps: float, E: Array, u: Precision) -> Array:
    X = np.abs(x) + E
    q = (x * x).mean(axis=-1, keepdims=True) + eps
    square = (X * X).mean(axis=-1, keepdims=True) + eps
    moved = (2 * np.abs(x) * E + E * E).mean(axis=-1, keepdims=True)
    E_q = moved + u.growth(3, x.shape[-1] + 2) * square + 4 * u.eta_s
    certain = ~(E_q >= q)
    a, b = np.sqrt(q), np.sqrt(np.where(certain, q - E_q, q))
    largest = (1 + u.growth(6)) / b
    # largest - 1 / a, where both may agree to almost all digits
    E_i = E_q / (a * b * (a + b)) + u.growth(6) / b
    result = gain * (E * largest + np.abs(x) * E_i) + u.growth(4) * gain * X * largest + 5 * u.eta_s * (1 + gain)
    bound: Array = np.where(certain, result, np.inf)
    return bound
