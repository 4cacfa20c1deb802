"""Checks of a suite's tensors: values with bounds for every type, exact where that is promised (CNF-3, CNF-12)."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from compacter_core.adapter import DType
from compacter_core.conformance.findings import Contents, Finding
from compacter_core.conformance.tensor_files import Tensor, read_tensors
from compacter_core.conformance.words import Flag, Op
from compacter_core.errors import CompacterError
from compacter_core.format.codec import round_to
from compacter_core.layout import Part

BOUND: Final = "bound."


def check_expectations(suite: Contents) -> Iterator[Finding]:
    """Expected values are F64 and have bounds of their shape for every type that the case is run in."""
    for _, case in suite.cases:
        path = suite.expectation(case).get("tensors")
        if not isinstance(path, str) or path not in suite.files:
            continue
        place = str(case.get("id"))
        try:
            tensors = read_tensors(suite.files[path], path)
        except CompacterError as error:
            yield Finding(place, str(error))
            continue
        yield from (Finding(place, problem) for problem in _problems(case, tensors))


def check_inputs(suite: Contents) -> Iterator[Finding]:
    """Every type that a case is run in holds the values of its files exactly."""
    for _, case in suite.cases:
        for argument, path in suite.arguments(case).items():
            dtypes = _dtypes(case)
            if not dtypes or path not in suite.files:
                continue
            try:
                tensors = read_tensors(suite.files[path], path)
            except CompacterError as error:
                yield Finding(str(case.get("id")), str(error))
                continue
            for dtype in dtypes:
                for name in _inexact(tensors, dtype):
                    yield Finding(str(case.get("id")), f"{name} of its {argument} is not exact in {dtype}")


def _problems(case: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Iterator[str]:
    values = {name: tensor for name, tensor in tensors.items() if not name.startswith(BOUND)}
    kinds = {tuple(name.split(".")[1:3]) for name in tensors if name.startswith(BOUND)}
    if not values:
        yield "expects no tensor"
    yield from (f"expects {name} in {value.dtype}" for name, value in values.items() if value.dtype is not DType.F64)
    if case.get("op") == Op.GRAFT and len(kinds) != 1:
        yield f"has {len(kinds)} kinds of bounds, and its operation is run in one type"
    for dtype in _dtypes(case):
        if not any(storage == dtype for storage, *_ in kinds):
            yield f"has no bounds for {dtype}"
    for kind in sorted(kinds):
        for name, value in values.items():
            bound = tensors.get(f"{BOUND}{'.'.join(kind)}.{name}")
            if bound is None:
                yield f"has no bound of {name} for {' and '.join(kind)}"
            else:
                yield from _bound_problems(case, name, value, bound)
    known = {f"{BOUND}{'.'.join(kind)}.{name}" for kind in kinds for name in values}
    yield from (f"has {name}, which bounds nothing" for name in sorted(tensors.keys() - values.keys() - known))


def _bound_problems(case: Mapping[str, Any], name: str, value: Tensor, bound: Tensor) -> Iterator[str]:
    if bound.array.shape != value.array.shape:
        yield f"has a bound of the shape {list(bound.array.shape)} for {name} of {list(value.array.shape)}"
        return
    present = bound.array[~np.isnan(value.array)]
    if not np.all(present >= 0):
        yield f"has a bound of {name} that is negative or NaN"
    if Flag.EXACT in case.get("flags", ()) and np.any(present != 0):
        yield f"is exact, and has a bound of {name} that is not 0"


def _dtypes(case: Mapping[str, Any]) -> list[DType]:
    listed = case.get("dtypes")
    return [DType(word) for word in listed if word in [*DType]] if isinstance(listed, list) else []


def _inexact(tensors: Mapping[str, Tensor], dtype: DType) -> Iterator[str]:
    """Names of tensors that rounding to `dtype` changes; sketches are F32 whatever the adapter is."""
    for name, tensor in tensors.items():
        wide = tensor.array.astype(np.float64)
        rounded = round_to(tensor.array, dtype).astype(np.float64)
        if not name.startswith(f"{Part.SKETCH}.") and not np.array_equal(wide, rounded, equal_nan=True):
            yield name
