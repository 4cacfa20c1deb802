"""Every wrong reader, writer and grafter fails at least one case, and the right ones none."""

import pytest

from compacter_core.conformance.mutants_files import FILE_MUTANTS
from compacter_core.conformance.mutation.file_mutant import FileMutant
from compacter_core.conformance.words import Verdict
from tests.conformance.file_suite import file_cases, right, verdict


def test_the_right_implementations_pass_every_case() -> None:
    wrong = [case.id for case in file_cases() if verdict(case, right()) is not Verdict.PASSED]
    assert wrong == []


@pytest.mark.parametrize("mutant", FILE_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_noticed(mutant: FileMutant) -> None:
    wrong = mutant.make(right())
    of_its_classes = (case for case in file_cases() if case.op.belongs_to in mutant.classes)
    assert any(verdict(case, wrong) is not Verdict.PASSED for case in of_its_classes), mutant.description


def test_names_are_unique() -> None:
    names = [mutant.name for mutant in FILE_MUTANTS]
    assert len(names) == len(set(names))
