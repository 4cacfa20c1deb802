"""From a question to a case with its three files; a question is drawn again until it notices its mutants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from compacter_core.adapter import Array, DType
from compacter_core.conformance.adapter_files import with_config_text
from compacter_core.conformance.case import Case, Expectation
from compacter_core.conformance.generate.bounds import PAIRS, rounded_up
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.questions import Question, Tensors
from compacter_core.conformance.generate.source import Source
from compacter_core.conformance.generate.sparse import sparse_text
from compacter_core.conformance.generate.tensor_bytes import tensor_bytes
from compacter_core.conformance.mutants import mutants_for
from compacter_core.conformance.mutation.mutant import Mutant
from compacter_core.conformance.mutation.numerics import Numerics
from compacter_core.conformance.tensor_files import Tensor
from compacter_core.conformance.words import Flag
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.reference.bounds import worst_ratio

EVERY_DTYPE: Final = tuple(DType)
MARGIN: Final = 4.0
"""By how much a mutant's error has to exceed the bound of F32."""

_SINGLE: Final = (DType.F32, DType.F32)
_ATTEMPTS: Final = 100
_LARGEST_INTEGER: Final = 256.0
"""The largest integer up to which every integer is a bfloat16."""

Q = TypeVar("Q", bound=Question)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a case is besides its question.

    Args:
        id: of the case.
        statements: that it tests.
        flags: what is special about it; with `exact` the bounds are 0, and every sum of magnitudes is at most 256.
        dtypes: types it is run in.
        comment: what is special about it, in words.
        notices: whether it has to notice the mutants that its configuration is open to.
        sparse: whether the adapter file leaves out every key of the configuration that has its default.
    """

    id: str
    statements: tuple[str, ...]
    flags: frozenset[Flag] = frozenset()
    dtypes: tuple[DType, ...] = EVERY_DTYPE
    comment: str = ""
    notices: bool = True
    sparse: bool = False


def add(builder: Builder, plan: Plan, make: Callable[[Source], Question]) -> None:
    """Draw a question and add its case.

    Args:
        builder: takes the case and its files.
        plan: what the case is.
        make: the question from a source of values.

    Raises:
        CompacterError: E801 if no draw of 100 notices every mutant, or is exact.
    """
    reasons: Sequence[str] = ()
    for attempt in range(_ATTEMPTS):
        question = make(Source(f"{plan.id}#{attempt}"))
        expected = question.expected()
        reasons = _reasons_against(question, plan, expected)
        if not reasons:
            _add(builder, plan, question, expected)
            return
    raise CompacterError(
        ErrorCode.E801,
        f"no draw of {_ATTEMPTS} makes a useful case {plan.id}",
        value=list(reasons),
        expected="a case that notices its mutants",
    )


def notices(question: Question, mutant: Mutant, expected: Tensors, bounds: Tensors) -> bool:
    """Whether the mutant's error is somewhere `MARGIN` times the bound of F32, and so larger than that of F64 too."""
    got = question.answer(mutant.numerics())
    if got.keys() != expected.keys():
        return True
    return any(worst_ratio(got[name], expected[name], bounds[name]) >= MARGIN for name in expected)


def _reasons_against(question: Question, plan: Plan, expected: Tensors) -> list[str]:
    exact = Flag.EXACT in plan.flags
    if exact and (largest := _largest_sum(question)) > _LARGEST_INTEGER:
        return [f"a sum of magnitudes {largest:g}"]
    if not plan.notices:
        return []
    bounds = _bounds(question, _SINGLE, exact=exact)
    mutants = mutants_for(question.op, question.adapter.config)
    return [mutant.name for mutant in mutants if not notices(question, mutant, expected, bounds)]


def _largest_sum(question: Question) -> float:
    """The largest sum of magnitudes on the way to the answer, whatever the order of evaluation.

    It is the answer for the question of absolute values with the identity as activation. No tensor has a 0 there, and
    no magnitude below 1 stands, so no partial sum is larger.
    """
    magnitudes = question.absolute().answer(Numerics())
    return max(float(array.max(initial=0.0)) for array in magnitudes.values())


def _bounds(question: Question, pair: tuple[DType, DType], *, exact: bool) -> Tensors:
    bounds = question.bounds(pair)
    return {name: np.zeros_like(bound) if exact else bound for name, bound in bounds.items()}


def _add(builder: Builder, plan: Plan, question: Question, expected: Tensors) -> None:
    adapter = adapter_bytes(question.adapter)
    files = {
        "adapter": with_config_text(adapter, sparse_text(question.adapter.config)) if plan.sparse else adapter,
        "inputs": tensor_bytes({name: _stored(array) for name, array in question.inputs().items()}),
    }
    paths = {name: builder.file(f"{plan.id}.{name}.safetensors", data) for name, data in files.items()}
    expectation = builder.file(f"{plan.id}.expected.safetensors", _expectation(question, plan, expected))
    builder.case(
        Case(
            id=plan.id,
            statements=tuple(dict.fromkeys(plan.statements)),
            op=question.op,
            expect=Expectation(tensors=expectation),
            flags=plan.flags,
            dtypes=plan.dtypes,
            files=paths,
            args=question.args,
            comment=plan.comment,
        )
    )


def _expectation(question: Question, plan: Plan, expected: Tensors) -> bytes:
    """The expected values, and for each pair of types that the case is run in their bounds (CNF-12)."""
    tensors = {name: Tensor(array, DType.F64) for name, array in expected.items()}
    for pair in PAIRS:
        if pair[0] in plan.dtypes:
            bounds = _bounds(question, pair, exact=Flag.EXACT in plan.flags)
            for name in expected:
                tensors[f"bound.{pair[0]}.{pair[1]}.{name}"] = _stored(rounded_up(bounds[name]))
    return tensor_bytes(tensors)


def _stored(array: Array) -> Tensor:
    """In F32, or in F64 where F32 is too narrow."""
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    same = np.array_equal(narrow.astype(np.float64), array, equal_nan=True)
    return Tensor(narrow, DType.F32) if same else Tensor(array, DType.F64)
