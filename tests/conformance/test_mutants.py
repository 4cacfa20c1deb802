"""Every mutant is noticed by the suite in the repository, and the implementation that they are made from is right."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from compacter_core.adapter import DType
from compacter_core.conformance.mutants import MUTANTS
from compacter_core.conformance.mutants_files import FILE_MUTANTS
from compacter_core.conformance.mutation.gradients import GRADIENT_MUTANTS
from compacter_core.conformance.mutation.implementation import composed_of
from compacter_core.conformance.mutation.mutant import Mutant, never
from compacter_core.conformance.mutation.numerics import Numerics
from compacter_core.conformance.mutation.placements import PLACEMENT_MUTANTS
from compacter_core.conformance.mutation.tensors import TENSOR_MUTANTS
from compacter_core.conformance.runner import Selection, run_suite
from compacter_core.conformance.subject import InProcess
from compacter_core.conformance.words import ConformanceClass, Flag, Op, Verdict
from compacter_core.format.reader import parse_adapter
from tests.conformance.suites import vectors

OPS = (Op.FORWARD, Op.GRADIENT, Op.SUBLAYER, Op.INITIALISE, Op.COUNT)
CLASSES = frozenset(op.belongs_to for op in OPS)
CHUNK = 6

BY_NAME = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
OF_GELUS = ("gelu-for-gelu-new", "gelu-new-for-gelu", "slope-of-other-gelu")
"""The two GELUs differ by less than F16 and BF16 can be off: only longer types tell them apart."""
STRUCTURAL = [
    mutant for mutant in (*TENSOR_MUTANTS, *GRADIENT_MUTANTS, *PLACEMENT_MUTANTS) if mutant.name not in OF_GELUS
]


def ids_of(mutant: Mutant) -> list[str]:
    """Cases of the mutant's classes, exact ones first: they notice most."""
    cases = [case for case in vectors().cases.values() if case.op in OPS and case.op.belongs_to in mutant.classes]
    return [case.id for case in sorted(cases, key=lambda case: Flag.EXACT not in case.flags)]


def chunks(ids: list[str]) -> Iterator[tuple[str, ...]]:
    yield from (tuple(ids[start : start + CHUNK]) for start in range(0, len(ids), CHUNK))


def noticed_in(mutant: Mutant, scratch: Path, dtype: DType | None) -> bool:
    """Whether a case fails because of the mutant, in one type; cases run until one does."""
    subject = InProcess(mutant.make())
    dtypes = None if dtype is None else (dtype,)
    for ids in chunks(ids_of(mutant)):
        report = run_suite(vectors(), subject, scratch, selection=Selection(dtypes=dtypes, patterns=ids))
        if any(result.verdict is Verdict.FAILED and result.detail for result in report.results):
            return True
    return False


@pytest.mark.spec("CNF-4")
@BY_NAME
def test_every_mutant_is_noticed(mutant: Mutant, tmp_path: Path) -> None:
    has_numbers = any(each.has_numbers for each in mutant.classes)
    for dtype in (DType.F64, DType.F32) if has_numbers else (None,):
        assert noticed_in(mutant, tmp_path, dtype), dtype


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
@pytest.mark.parametrize("mutant", STRUCTURAL, ids=lambda mutant: mutant.name)
def test_structural_mutants_are_noticed_in_short_types(mutant: Mutant, dtype: DType, tmp_path: Path) -> None:
    assert noticed_in(mutant, tmp_path, dtype)


def test_the_implementation_without_a_change_passes(tmp_path: Path) -> None:
    right = InProcess(composed_of(Numerics(), "right", CLASSES))
    patterns = tuple(case.id for case in vectors().cases.values() if case.op in OPS)
    report = run_suite(vectors(), right, tmp_path, selection=Selection(patterns=patterns))
    verdicts = Counter(result.verdict for row in report.rows for result in row.results)
    assert set(verdicts) == {Verdict.PASSED}
    assert verdicts[Verdict.PASSED] > len(patterns)


def test_mutants_are_told_apart() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) > 50
    assert len({mutant.description for mutant in MUTANTS}) == len(MUTANTS)
    assert {each for mutant in MUTANTS for each in mutant.classes} == CLASSES


def test_every_class_has_mutants() -> None:
    with_files = {each for mutant in FILE_MUTANTS for each in mutant.classes}
    assert {each for mutant in MUTANTS for each in mutant.classes} | with_files == set(ConformanceClass)


def test_every_mutant_claims_its_classes() -> None:
    for mutant in MUTANTS:
        assert set(mutant.make().describe().claims) == mutant.classes


NUMERIC = [mutant for mutant in MUTANTS if any(each.has_numbers for each in mutant.classes)]


@pytest.mark.parametrize("mutant", NUMERIC, ids=lambda mutant: mutant.name)
def test_mutants_apply_to_cases_unless_only_special_values_reveal_them(mutant: Mutant) -> None:
    """A mutant that applies to no case is one that no case is drawn again for."""
    cases = [case for case in vectors().cases.values() if case.op.belongs_to in mutant.classes]
    applies = any(mutant.applies(parse_adapter(vectors().files[case.files["adapter"]]).config) for case in cases)
    assert applies == (mutant.applies is not never)
