"""The activations against decimal arithmetic, their derivatives against differences and complex steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.adapter import Array, DType
from compacter_core.reference.activations import activate, derivative
from compacter_core.reference.rounding import Precision, activation_error
from compacter_core.vocabulary import Activation
from tests.support import oracle
from tests.support.arrays import round_to

KINDS = pytest.mark.parametrize("kind", Activation)
DOUBLE = Precision.of(DType.F64, DType.F64)
SMOOTH = [kind for kind in Activation if kind is not Activation.RELU]

points = st.floats(-40, 40).map(lambda z: np.array([z]))


def own_error(kind: Activation, z: Array) -> Array:
    """How far a float64 evaluation may be off."""
    return activation_error(kind, z, np.zeros_like(z), DOUBLE)


@pytest.mark.spec("FWD-14", "FWD-15", "FWD-16", "FWD-17", "FWD-18", "FWD-19")
@KINDS
@given(z=points)
def test_value_is_the_textbooks(kind: Activation, z: Array) -> None:
    expected = [oracle.activate(kind, oracle.decimals(z)[0])]
    assert (oracle.distance(activate(kind, z), expected) <= own_error(kind, z)).all()


@pytest.mark.spec("GRD-11")
@pytest.mark.parametrize("kind", SMOOTH)
@given(z=points)
def test_derivative_is_the_slope_of_the_value(kind: Activation, z: Array) -> None:
    expected = [oracle.slope(lambda at: oracle.activate(kind, at), oracle.decimals(z)[0])]
    assert (oracle.distance(derivative(kind, z), expected) <= 16 * DOUBLE.u_s * (1 + np.abs(z))).all()


@pytest.mark.parametrize("kind", [kind for kind in Activation if kind is not Activation.GELU])
@given(z=points.filter(lambda z: bool(z[0] != 0)))
def test_complex_step_gives_the_derivative(kind: Activation, z: Array) -> None:
    step = 1e-200
    slope = activate(kind, z + 1j * step).imag / step
    assert (np.abs(slope - derivative(kind, z)) <= 16 * DOUBLE.u_s * (1 + np.abs(z))).all()


@pytest.mark.spec("GRD-11")
@pytest.mark.parametrize("z", [-3.0, 0.0, 2.0])
def test_relu_is_flat_up_to_zero(z: float) -> None:
    assert derivative(Activation.RELU, np.array([z])) == (1.0 if z > 0 else 0.0)


@KINDS
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_type_and_shape_are_kept(kind: Activation, dtype: type[np.floating]) -> None:
    z = np.linspace(-3, 3, 6).astype(dtype).reshape(2, 3)
    for result in (activate(kind, z), derivative(kind, z)):
        assert result.dtype == dtype
        assert result.shape == z.shape


@pytest.mark.spec("FWD-21")
@KINDS
def test_nan_stays_where_it_is(kind: Activation) -> None:
    z = np.array([np.nan, -1.0, 1.0])
    assert np.isnan(activate(kind, z)).tolist() == [True, False, False]
    if kind is not Activation.IDENTITY:
        assert np.isnan(derivative(kind, z)).tolist() == [True, False, False]


@pytest.mark.spec("FWD-20")
@KINDS
@pytest.mark.parametrize("z", [-1e300, -1e5, 1e5, 1e300])
def test_large_arguments_saturate_without_a_warning(kind: Activation, z: float) -> None:
    with np.errstate(all="raise", under="ignore"):
        value, slope = activate(kind, np.array([z])), derivative(kind, np.array([z]))
    flat = kind is Activation.TANH or (z < 0 and kind is not Activation.IDENTITY)
    assert slope == (0.0 if flat else 1.0)
    if kind is Activation.TANH:
        assert value == np.sign(z)
    else:
        assert value == (0.0 if flat else z)


@pytest.mark.spec("FWD-14", "FWD-15")
def test_gelu_new_is_not_gelu() -> None:
    """Largest difference about 4.73e-4, near -2.70: the point that conformance vectors should probe."""
    z = np.linspace(-6, 6, 100_001)
    difference = np.abs(activate(Activation.GELU_NEW, z) - activate(Activation.GELU, z))
    assert 4.7e-4 < difference.max() < 4.8e-4
    assert abs(abs(z[difference.argmax()]) - 2.70) < 0.01


@pytest.mark.parametrize("kind", [Activation.GELU, Activation.GELU_NEW, Activation.SILU])
def test_small_values_keep_their_relative_accuracy(kind: Activation) -> None:
    """Neither 1 + tanh nor 1 + erf may cancel for negative z."""
    z = np.array([-7.5])
    expected = oracle.activate(kind, oracle.decimals(z)[0])
    relative = oracle.distance(activate(kind, z), [expected]) / abs(float(expected))
    # The exponent of about -z^2/2 to -2w is itself rounded: its absolute error is the result's relative error.
    assert relative <= 200 * DOUBLE.u_s


class TestRoundTo:
    """The emulated storage types."""

    bits = st.integers(0, 0x7F7F)

    @given(bits=bits)
    def test_bfloat16_values_are_fixed(self, bits: int) -> None:
        value = np.array([bits << 16], dtype=np.uint32).view(np.float32)
        assert round_to(value, DType.BF16) == value
        assert round_to(-value, DType.BF16) == -value

    @given(bits=st.integers(0, 0x7F7E))
    def test_bfloat16_ties_go_to_even(self, bits: int) -> None:
        low, high = (np.array([b << 16], dtype=np.uint32).view(np.float32) for b in (bits, bits + 1))
        tie = (low.astype(np.float64) + high) / 2
        assert round_to(tie, DType.BF16) == (low if bits % 2 == 0 else high)
        assert round_to(np.nextafter(tie, np.inf), DType.BF16) == high
        assert round_to(np.nextafter(tie, -np.inf), DType.BF16) == low

    def test_bfloat16_overflows_to_infinity(self) -> None:
        assert np.isinf(round_to(np.array([3.4e38, -1e300]), DType.BF16)).all()
        assert np.isnan(round_to(np.array([np.nan]), DType.BF16)).all()
