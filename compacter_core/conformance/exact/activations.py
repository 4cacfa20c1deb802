"""The six activations and their derivatives at a fraction.

relu and identity are rational. The others are evaluated by mpmath with 320 significant bits, from forms that lose no
digits for negative arguments: with q(v) = 1 / (1 + exp(-v)), w(z) = sqrt(2/pi) (z + 0.044715 z^3), phi the normal
density and Phi(z) = erfc(-z / sqrt 2) / 2,

    gelu_new(z) = z q(2 w)          gelu_new'(z) = q(2 w) + 2 z w' q(2 w) q(-2 w)
    gelu(z)     = z Phi(z)          gelu'(z)     = Phi(z) + z phi(z)
    silu(z)     = z q(z)            silu'(z)     = q(z) (1 + z q(-z))
    tanh(z)                         tanh'(z)     = 1 / cosh(z)^2

Where an exponential is below exp(-2048), far less than the smallest F64 even after a product with the largest, it
counts as 0: so q, Phi and tanh are 0 or +-1 there, and no fraction gets millions of digits.
"""

from fractions import Fraction
from functools import cache
from importlib import import_module
from typing import Any, Final

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.vocabulary import Activation

_BITS: Final = 320
_SATURATED: Final = 2048
_CUBIC: Final = Fraction(44715, 1_000_000)


def activate(kind: Activation, z: Fraction) -> Fraction:
    """The activation of `z`.

    Raises:
        CompacterError: E004 if mpmath is needed and not installed.
    """
    match kind:
        case Activation.GELU_NEW:
            value = z * _sigmoid(2 * _argument(z))
        case Activation.GELU:
            value = z * _normal_cdf(z)
        case Activation.RELU:
            value = max(z, Fraction(0))
        case Activation.SILU:
            value = z * _sigmoid(z)
        case Activation.TANH:
            value = 2 * _sigmoid(2 * z) - 1 if abs(z) > 1 else _tanh(z)
        case Activation.IDENTITY:
            value = z
    return value


def slope(kind: Activation, z: Fraction) -> Fraction:
    """The derivative at `z`; relu's at 0 is 0.

    Raises:
        CompacterError: E004 if mpmath is needed and not installed.
    """
    match kind:
        case Activation.GELU_NEW:
            v = 2 * _argument(z)
            rise = 2 * _root_two_over_pi() * (1 + 3 * _CUBIC * z * z)
            value = _sigmoid(v) + z * rise * _sigmoid(v) * _sigmoid(-v)
        case Activation.GELU:
            value = _normal_cdf(z) + z * _normal_density(z)
        case Activation.RELU:
            value = Fraction(int(z > 0))
        case Activation.SILU:
            value = _sigmoid(z) * (1 + z * _sigmoid(-z))
        case Activation.TANH:
            value = 4 * _sigmoid(2 * z) * _sigmoid(-2 * z)
        case Activation.IDENTITY:
            value = Fraction(1)
    return value


def _argument(z: Fraction) -> Fraction:
    """w(z) of gelu_new."""
    return _root_two_over_pi() * (z + _CUBIC * z**3)


def _sigmoid(v: Fraction) -> Fraction:
    if abs(v) > _SATURATED:
        return Fraction(int(v > 0))
    context = _context()
    return _fraction(1 / (1 + context.exp(-_real(v))))


def _tanh(z: Fraction) -> Fraction:
    return _fraction(_context().tanh(_real(z)))


def _normal_cdf(z: Fraction) -> Fraction:
    if z * z / 2 > _SATURATED:
        return Fraction(int(z > 0))
    context = _context()
    return _fraction(context.erfc(-_real(z) / context.sqrt(2)) / 2)


def _normal_density(z: Fraction) -> Fraction:
    if z * z / 2 > _SATURATED:
        return Fraction(0)
    context = _context()
    return _fraction(context.exp(-(_real(z) ** 2) / 2) / context.sqrt(2 * context.pi))


@cache
def _root_two_over_pi() -> Fraction:
    context = _context()
    return _fraction(context.sqrt(2 / context.pi))


@cache
def _context() -> Any:
    """An arithmetic context of our own, so that nobody else's precision changes, nor ours."""
    try:
        # Not at the top: the core works without it, only making vectors needs it.
        mpmath = import_module("mpmath")
    except ImportError as error:
        raise CompacterError(
            ErrorCode.E004,
            "exact activations need the package mpmath",
            value=error.name,
            remedy="pip install mpmath",
        ) from error
    context = mpmath.MPContext()
    context.prec = _BITS
    return context


def _real(value: Fraction) -> Any:
    return _context().mpf(value.numerator) / value.denominator


def _fraction(real: Any) -> Fraction:
    """The number exactly: sign, odd significand and exponent of two."""
    sign, significand, exponent, _ = real._mpf_
    magnitude = Fraction(int(significand)) * Fraction(2) ** int(exponent)
    return -magnitude if sign else magnitude
