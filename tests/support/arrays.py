"""Rounding of float64 values to the four storage types, emulated where NumPy lacks the type."""

import numpy as np

from compacter_core.adapter import Array, DType

_BF16_SIGNIFICANT_BITS = 8
_BF16_SMALLEST_EXPONENT = -133


def round_to(values: Array, dtype: DType) -> Array:
    """`values` rounded once to nearest, ties to even, as `dtype.memory`; BF16 so comes back as float32."""
    if dtype is not DType.BF16:
        with np.errstate(over="ignore"):
            return np.asarray(values).astype(dtype.memory)
    wide = np.asarray(values, dtype=np.float64)
    exponent = np.maximum(np.frexp(wide)[1] - _BF16_SIGNIFICANT_BITS, _BF16_SMALLEST_EXPONENT)
    rounded = np.ldexp(np.rint(np.ldexp(wide, -exponent)), exponent)
    limit = np.ldexp(2.0 - 2.0**-7, 127)
    return np.where(np.abs(rounded) > limit, np.copysign(np.inf, wide), rounded).astype(np.float32)
