"""Tensors against expected values and elementwise bounds (CNF-12). There is no other tolerance."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compacter_core.adapter import Array, DType
from compacter_core.errors import CompacterError, ErrorCode

BOUND: Final = "bound"
_LARGE: Final = 1e4
Precision = tuple[DType, DType]
"""Type of storage and type of sums."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far a set of tensors is from the expected one.

    Args:
        worst_ratio: the largest |got - expected| / bound over all elements; None if there are none to compare, and
            infinite for an error where the bound is 0 or a NaN where there should be none.
        problem: what is wrong, with the worst element; None if nothing is.
    """

    worst_ratio: float | None
    problem: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """One tensor's exact values rounded to float64, and the bound of each element."""

    values: NDArray[np.float64]
    bound: NDArray[np.float64]


def expected_tensors(stored: Mapping[str, Array], precision: Precision | None, what: str) -> dict[str, Expected]:
    """The expectations of a file that has tensors `T` and `bound.<storage>.<accumulate>.T`.

    Args:
        stored: the file's tensors.
        precision: which bounds; None if the file has one kind only.
        what: name of the file in messages.

    Raises:
        CompacterError: E801 if there are no such bounds, or one is no number >= 0.
    """
    names = [name for name in stored if not name.startswith(f"{BOUND}.")]
    kinds = {".".join(name.split(".")[1:3]) for name in stored if name.startswith(f"{BOUND}.")}
    if precision is None and len(kinds) != 1:
        raise CompacterError(ErrorCode.E801, f"suite: bounds of {what}", value=sorted(kinds), expected="one kind")
    kind = ".".join(precision) if precision is not None else kinds.pop()
    found = {}
    for name in names:
        bound = stored.get(f"{BOUND}.{kind}.{name}")
        if bound is None:
            raise CompacterError(
                ErrorCode.E801,
                f"suite: {what} has no bound of {name} for storage and sums in these types",
                value=kind,
                expected="one of " + ", ".join(sorted(kinds)),
                remedy="Claim another type of sums.",
            )
        found[name] = Expected(stored[name].astype(np.float64), bound.astype(np.float64))
        # Where a NaN is expected, there is nothing to bound.
        if bound.shape != stored[name].shape or not np.all((found[name].bound >= 0) | np.isnan(found[name].values)):
            raise CompacterError(ErrorCode.E801, f"suite: bound of {name} in {what}", expected="numbers >= 0, one each")
    return found


def compare(got: Mapping[str, Array], expected: Mapping[str, Expected]) -> Comparison:
    """Compare every tensor; the tensors have to be exactly the expected ones."""
    missing, extra = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
    if missing or extra:
        parts = [f"tensors missing: {', '.join(missing)}"] * bool(missing)
        parts += [f"tensors that were not asked for: {', '.join(extra)}"] * bool(extra)
        return Comparison(None, f"{'; '.join(parts)}; expected {', '.join(sorted(expected))}")
    worst: Comparison = Comparison(None, None)
    for name in sorted(expected):
        found = _compare_tensor(name, got[name], expected[name])
        if _order(found) > _order(worst):
            worst = found
    return worst


def _order(comparison: Comparison) -> tuple[bool, float]:
    """Problems come before good comparisons, and larger ratios before smaller ones."""
    return comparison.problem is not None, -1.0 if comparison.worst_ratio is None else comparison.worst_ratio


def _compare_tensor(name: str, got: Array, expected: Expected) -> Comparison:
    if got.shape != expected.values.shape:
        shapes = f"got {list(got.shape)}, expected {list(expected.values.shape)}"
        return Comparison(None, f"{name} has the wrong shape: {shapes}")
    if got.size == 0:
        return Comparison(None, None)
    values = got.astype(np.float64)
    ratio = _ratios(values, expected)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
    worst = float(ratio[index])
    if worst <= 1.0:
        return Comparison(worst, None)
    bad = int(np.count_nonzero(ratio > 1.0))
    pair = f"{name}{list(index)}: got {_number(values[index])}, expected {_number(expected.values[index])}"
    why = _why(float(values[index]), float(expected.values[index]), float(expected.bound[index]), worst)
    return Comparison(worst, f"{pair}{why}; {bad} of {ratio.size} elements are wrong")


def _ratios(got: NDArray[np.float64], expected: Expected) -> NDArray[np.float64]:
    """|got - expected| / bound: at most 1 exactly where an element passes, infinite where no bound could help.

    The quotient is made consistent with the comparison |got - expected| <= bound, which a rounding could cross.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        error = np.abs(got - expected.values)
        quotient = error / expected.bound
    within = error <= expected.bound
    equal = (got == expected.values) | (np.isnan(got) & np.isnan(expected.values))
    ratio = np.where(within, np.minimum(np.nan_to_num(quotient), 1.0), np.maximum(quotient, np.nextafter(1.0, 2.0)))
    ratio = np.where(np.isnan(error) | np.isnan(ratio), math.inf, ratio)
    return np.where(equal, 0.0, ratio)


def _number(value: Any) -> str:
    return repr(float(value))


def _why(got: float, expected: float, bound: float, ratio: float) -> str:
    """Why that is wrong, after got and expected."""
    if not math.isfinite(expected):
        return ""
    if not math.isfinite(got):
        return ", which is finite"
    if bound == 0:
        return "; the bound is 0, so the exact value is required"
    return f" within {_number(bound)}, {shown_ratio(ratio)} times the bound"


def shown_ratio(ratio: float) -> str:
    """A ratio of error to bound for people: four decimals, or a power of ten where it is large."""
    return f"{ratio:.4f}" if ratio < _LARGE else f"{ratio:.3e}"
