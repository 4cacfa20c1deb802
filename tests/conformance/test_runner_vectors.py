"""The runner over the real suite: the reference conforms, and every mutant is caught."""

import shlex
import sys
from functools import cache
from pathlib import Path

import pytest

from compacter_core.adapter import DType
from compacter_core.conformance.child import Child
from compacter_core.conformance.implementations import create
from compacter_core.conformance.mutants import MUTANTS
from compacter_core.conformance.mutation.mutant import Mutant
from compacter_core.conformance.report import Result
from compacter_core.conformance.runner import Selection, run_suite
from compacter_core.conformance.subject import InProcess
from compacter_core.conformance.suite import Suite, default_suite, load_suite
from compacter_core.conformance.words import ConformanceClass, Verdict


@cache
def vectors() -> Suite:
    return load_suite(default_suite())


@pytest.mark.spec("CNF-4", "CNF-12")
def test_the_reference_conforms(tmp_path: Path) -> None:
    report = run_suite(vectors(), InProcess(create("reference")), tmp_path)
    assert report.conformant, report.as_text()


@pytest.mark.spec("CNF-14", "CNF-16")
def test_the_reference_conforms_behind_a_pipe(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-m", "compacter_core.conformance.serve", "reference"])
    child = Child(command, tmp_path)
    try:
        report = run_suite(vectors(), child, tmp_path, selection=Selection(dtypes=(DType.BF16,)))
    finally:
        child.close()
    assert report.conformant, report.as_text()


def failure(mutant: Mutant, scratch: Path) -> Result | None:
    """The first case that says a mutant is wrong: a skipped case or an error would not."""
    subject = InProcess(mutant.make())
    suite = vectors()
    for case in suite.cases.values():
        if case.op.belongs_to in mutant.classes:
            selection = Selection(dtypes=(DType.F64,) if case.dtypes else None, patterns=(case.id,))
            for result in run_suite(suite, subject, scratch, selection=selection).results:
                if result.verdict is Verdict.FAILED:
                    return result
    return None


@pytest.mark.spec("CNF-4")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    found = failure(mutant, tmp_path)
    assert found is not None, mutant.description
    assert found.detail


def test_every_class_has_mutants() -> None:
    mutated = {cls for mutant in MUTANTS for cls in mutant.classes}
    with_files = {ConformanceClass.WRITER, ConformanceClass.ONNX}  # their answers are bytes, equal or not
    assert mutated | with_files == set(ConformanceClass)
