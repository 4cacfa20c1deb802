"""bfloat16 without a NumPy type: exact both ways, and rounded once."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.adapter import DType
from compacter_core.errors import ErrorCode
from compacter_core.format.codec import cast, decode, encode, round_to
from compacter_core.format.container import TensorInfo
from compacter_core.format.reader import parse_adapter
from compacter_core.format.writer import adapter_bytes
from tests.format.builders import make_adapter, rejected

PATTERNS = np.arange(2**16, dtype="<u2")


@pytest.mark.spec("CNV-3", "CNV-4")
def test_every_bfloat16_is_held_exactly() -> None:
    decoded = decode(PATTERNS.tobytes(), TensorInfo(DType.BF16, (2**16,)))
    expected = PATTERNS.view(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(decoded, expected, equal_nan=True)
    assert encode("t", decoded, DType.BF16) == PATTERNS.tobytes()


def test_every_bfloat16_rounds_to_itself() -> None:
    values = PATTERNS.view(ml_dtypes.bfloat16).astype(np.float32)
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        wide = values.astype(np.float64)
    for array in (values, wide):
        assert np.array_equal(round_to(array, DType.BF16), values, equal_nan=True)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_float32_rounds_as_ml_dtypes_does(patterns: list[int]) -> None:
    values = np.array(patterns, dtype=np.uint32).view(np.float32)
    expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(round_to(values, DType.BF16), expected, equal_nan=True)


@pytest.mark.spec("CNV-3")
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_float64_is_rounded_once_to_the_nearest_ties_to_even(value: float) -> None:
    check_nearest(value)


@pytest.mark.spec("CNV-3")
@given(st.integers(0, 2**15 - 1).filter(lambda pattern: pattern < 0x7F7F), st.integers(-2, 2), st.sampled_from([1, -1]))
def test_float64_beside_a_tie(pattern: int, ulps: int, sign: int) -> None:
    """Rounding to float32 on the way would move such a value onto the tie."""
    low, high = (float(p.view(ml_dtypes.bfloat16)) for p in np.array([pattern, pattern + 1], dtype=np.uint16))
    value = sign * (low + high) / 2
    for _ in range(abs(ulps)):
        value = float(np.nextafter(value, np.inf * np.sign(ulps)))
    check_nearest(value)


def check_nearest(value: float) -> None:
    got = float(round_to(np.array([value]), DType.BF16)[0])
    largest = 2.0**127 * (2 - 2.0**-7)
    if not np.isfinite(got):
        assert abs(value) >= largest + 2.0**119
        return
    got_pattern = int(np.array(got, dtype=np.float32).view(np.uint32)) >> 16
    distance = abs(Fraction(value) - Fraction(got))
    for step in (-1, 1):
        neighbour = float(np.array((got_pattern + step) & 0xFFFF, dtype=np.uint16).view(ml_dtypes.bfloat16))
        if np.isfinite(neighbour):
            other = abs(Fraction(value) - Fraction(neighbour))
            assert distance < other or (distance == other and got_pattern % 2 == 0)


def test_e003_values_that_are_no_bfloat16() -> None:
    with rejected(ErrorCode.E003):
        encode("t", np.array([1 / 3], dtype=np.float32), DType.BF16)


@pytest.mark.parametrize("dtype", DType)
def test_cast_adapters_can_be_written(dtype: DType) -> None:
    adapter = cast(make_adapter(dtype=DType.F64), dtype)
    again = parse_adapter(adapter_bytes(adapter))
    assert again.dtype is dtype
    for name, array in adapter.tensors.items():
        assert np.array_equal(again.tensors[name], array)
    assert cast(adapter, dtype).tensors.keys() == adapter.tensors.keys()


def test_casting_rounds_by_at_most_one_roundoff() -> None:
    adapter = make_adapter(dtype=DType.F64)
    for dtype in (DType.F32, DType.F16, DType.BF16):
        for name, array in cast(adapter, dtype).tensors.items():
            exact = adapter.tensors[name]
            bound = np.maximum(dtype.roundoff * np.abs(exact), dtype.smallest_normal * dtype.roundoff)
            assert np.all(np.abs(array - exact) <= bound)


@pytest.mark.spec("CNV-4")
def test_scalars_and_strides() -> None:
    assert encode("t", np.array(1.0, dtype=np.float32), DType.BF16) == b"\x80\x3f"
    strided = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    for dtype in (DType.F32, DType.BF16):
        assert encode("t", strided, dtype) == encode("t", strided.copy(), dtype)
        assert round_to(strided, dtype).shape == strided.shape
