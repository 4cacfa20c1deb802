"""The JavaScript implementation follows the specification: its own tests, and the suite behind a pipe."""

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from compacter_core.adapter import DType
from compacter_core.conformance.child import Child
from compacter_core.conformance.runner import run_suite
from compacter_core.conformance.words import ConformanceClass
from tests.conformance.suites import vectors

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "javascript"
CLAIMED: Final = {
    (ConformanceClass.READER, None),
    (ConformanceClass.FORWARD, DType.F32),
    (ConformanceClass.FORWARD, DType.F64),
    (ConformanceClass.PLACEMENT, DType.F32),
    (ConformanceClass.PLACEMENT, DType.F64),
}


@pytest.fixture(scope="module")
def node() -> str:
    """The Node program."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    return found


def test_its_own_tests_pass(node: str) -> None:
    tests = sorted(map(str, (EXAMPLE / "test").glob("*.test.mjs")))
    assert tests
    done = subprocess.run([node, "--test", *tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.spec("CNF-4", "CNF-14", "CNF-15", "CNF-18")
def test_it_conforms(node: str, tmp_path: Path) -> None:
    """In every class and type that the issue asks for, with nothing skipped."""
    child = Child(shlex.join([node, str(EXAMPLE / "main.mjs")]), tmp_path)
    try:
        report = run_suite(vectors(), child, tmp_path)
    finally:
        child.close()
    assert {(row.cls, row.dtype) for row in report.rows if row.conformant} == CLAIMED, report.as_text()
    assert report.conformant


def test_it_uses_nothing_but_node() -> None:
    """Each import is one of its own files or a module of Node."""
    for source in EXAMPLE.rglob("*.mjs"):
        for line in source.read_text().splitlines():
            if " from '" in line and line.startswith(("import", "} from", "export")):
                name = line.split(" from '")[1].split("'")[0]
                assert name.startswith(("./", "../", "node:")), f"{source}: {name}"
