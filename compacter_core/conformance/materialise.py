"""A case on disk, as the implementation gets it: files in the scratch folder, numbers in the requested type (CNF-3)."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from compacter_core.adapter import Array, DType
from compacter_core.conformance.adapter_files import config_text, with_config_text
from compacter_core.conformance.case import Case
from compacter_core.conformance.implementation import Request
from compacter_core.conformance.recipe import SUFFIX, parse_recipe, write_recipe
from compacter_core.conformance.suite import Suite
from compacter_core.conformance.tensor_files import read_tensors, write_tensors
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.codec import cast, round_to
from compacter_core.format.reader import parse_adapter
from compacter_core.format.writer import adapter_bytes


def materialise(
    suite: Suite,
    case: Case,
    dtype: DType | None,
    *,
    scratch: Path,
    prefix: str,
    args: Mapping[str, object] | None = None,
) -> Request:
    """Put the case's files into `scratch`, as `<prefix>.<argument>.<suffix>`, and ask the question.

    Args:
        suite: where the files come from.
        case: what is asked.
        dtype: type of adapter and inputs; None for operations without numbers, whose files go as they are. An adapter
            of another type keeps the text of its configuration, which need not be the canonical one.
        scratch: an existing folder.
        prefix: makes the names unique there.
        args: values that replace those of the case.

    Raises:
        CompacterError: E801 if a value of the case is not exact in `dtype` or a recipe is none.
    """
    files = {}
    for argument, path in case.files.items():
        target = scratch / f"{prefix}.{argument}{_suffix(path)}"
        data = suite.files[path]
        if path.endswith(SUFFIX):
            write_recipe(parse_recipe(data, path), target)
        elif dtype is None:
            target.write_bytes(data)
        elif argument == "adapter":
            target.write_bytes(_cast_adapter(data, dtype, case, path))
        else:
            target.write_bytes(_cast_tensors(data, dtype, case, path))
        files[argument] = target
    return Request(
        case=case.id,
        op=case.op,
        dtype=dtype,
        files=files,
        args={**case.args, **(args or {})},
        out=scratch / f"{prefix}.out",
    )


def _suffix(path: str) -> str:
    return PurePosixPath(path.removesuffix(SUFFIX)).suffix


def _cast_adapter(data: bytes, dtype: DType, case: Case, path: str) -> bytes:
    adapter = parse_adapter(data)
    rounded = cast(adapter, dtype)
    for name, array in adapter.tensors.items():
        _check_exact(array, rounded.tensors[name], dtype, f"case {case.id}: tensor {name} of {path}")
    return with_config_text(adapter_bytes(rounded), config_text(data))


def _cast_tensors(data: bytes, dtype: DType, case: Case, path: str) -> bytes:
    rounded = {}
    for name, tensor in read_tensors(data, f"suite: {path}").items():
        rounded[name] = round_to(tensor.array, dtype)
        _check_exact(tensor.array, rounded[name], dtype, f"case {case.id}: tensor {name} of {path}")
    return write_tensors(rounded, dtype)


def _check_exact(exact: Array, rounded: Array, dtype: DType, what: str) -> None:
    """Every value is still the same; a NaN is one whatever its bits."""
    wide = exact.astype(np.float64), rounded.astype(np.float64)
    if not np.array_equal(*wide, equal_nan=True):
        worst = np.argwhere((wide[0] != wide[1]) & ~(np.isnan(wide[0]) & np.isnan(wide[1])))[0]
        raise CompacterError(
            ErrorCode.E801,
            f"suite: {what} is not exact in {dtype.value}",
            value=float(wide[0][tuple(worst)]),
            expected=f"a value of {dtype.value}",
        )
