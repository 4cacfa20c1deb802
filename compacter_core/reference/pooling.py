"""The mean of the last hidden states that a head may read in place of its backbone's pooler (ONX-50), and its bound.

p = sum_t m_t h_t / sum_t m_t    over the tokens t of a row
"""

import numpy as np

from compacter_core.adapter import Array, DType
from compacter_core.reference.rounding import SLACK, Precision


def mean_of_tokens(hidden: Array, mask: Array) -> Array:
    """P.

    Args:
        hidden: h, [..., T, d].
        mask: m, [..., T], 1 for tokens that count and 0 for others; at least one counts in every row.

    Returns:
        [..., d]
    """
    weights = mask[..., None]
    p: Array = (hidden * weights).sum(axis=-2) / weights.sum(axis=-2)
    return p


def mean_bound(
    hidden: Array, mask: Array, *, storage: DType, accumulate: DType, input_error: Array | float = 0.0
) -> Array:
    """Bound for `mean_of_tokens(hidden, mask)` (NUM-19).

    With F = (1 + G(3, T)) / (1 - G(1, T)) - 1, h being off by at most E:

        (1 + F) mean E + F mean |h| + 2 eta_s

    A product, its sum and the quotient are stored, 3 roundings beside the T of the sum; the divisor is a sum of T too,
    and stored. Where G(1, T) >= 1 the bound is infinite.

    Args:
        hidden: [..., T, d], as the implementation got it.
        mask: [..., T].
        storage: type of tensors and results.
        accumulate: type of sums.
        input_error: E, [..., T, d] or a number.

    Returns:
        float64 [..., d]
    """
    hidden, mask = hidden.astype(np.float64), mask.astype(np.float64)
    given = np.broadcast_to(np.asarray(input_error, dtype=np.float64), hidden.shape)
    got = _error(hidden, mask, given, Precision.of(storage, accumulate))
    own = _error(hidden, mask, np.zeros_like(given), Precision.of(DType.F64, DType.F64))
    bound: Array = SLACK * (got + own)
    return bound


def _error(hidden: Array, mask: Array, E: Array, u: Precision) -> Array:
    tokens = hidden.shape[-2]
    divisor = 1 - u.growth(1, tokens)
    if divisor <= 0:
        return np.full(np.delete(hidden.shape, -2), np.inf)
    grown = (1 + u.growth(3, tokens)) / divisor - 1
    moved, size = mean_of_tokens(E, mask), mean_of_tokens(np.abs(hidden), mask)
    error: Array = (1 + grown) * moved + grown * size + 2 * u.eta_s
    return error
