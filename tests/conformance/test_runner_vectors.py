"""The runner over the real suite: the reference conforms, in process and behind a pipe."""

import shlex
import sys
from pathlib import Path

import pytest

from compacter_core.adapter import DType
from compacter_core.conformance.child import Child
from compacter_core.conformance.implementations import create
from compacter_core.conformance.runner import Selection, run_suite
from compacter_core.conformance.subject import InProcess
from tests.conformance.suites import vectors


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
