"""How far a residual sum inside a fused operator may be from the sum of the values observed beside it."""

import numpy as np

from compacter_core.adapter import Array
from compacter_exporters.checks import Numbers
from compacter_exporters.fused.skip_norms import FusedSum


def fused_sum_error(first: Array, second: Array, fused: FusedSum | None, numbers: Numbers) -> Array:
    """|r + t + c as the operator sums it - (r + h)|, where h = fl(t + c) was computed beside it.

    A sum of three in any order is off by at most G_2 (|r| + |t| + |c|), h by u |t + c|; |t + c| <= |h| / (1 - u) and
    |t| <= |t + c| + |c|. With
    G_2 = 2 u / (1 - 2 u), and 2 u for u / (1 - u):

        G_2 (|r| + (1 + 2 u) |h| + 2 |c|) + 2 u |h|  <=  G_2 (1 + 2 u)(|r| + |h| + 2 |c|) + 2 u (|r| + |h|)

    Args:
        first: r or h, whichever, float64 [..., d].
        second: the other.
        fused: what the operator adds besides; None where the sum is a node of its own.
        numbers: types of the graph.

    Returns:
        float64 [..., d]; zeros where the sum is a node of its own.
    """
    if fused is None:
        return np.zeros(first.shape)
    u, size = numbers.roundoff, np.abs(first) + np.abs(second)
    bias = 0.0 if fused.bias is None else np.abs(fused.bias.astype(np.float64))
    growth = 2 * u / (1 - 2 * u)
    return np.asarray(growth * (1 + 2 * u) * (size + 2 * bias) + 2 * u * size + 2 * numbers.storage.smallest_normal)
