"""The tests notice seeded faults: each fault goes into a copy of the source, and its test has to fail there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations.faults import FAULTS, Fault

ROOT = Path(__file__).parents[2]
PARTS = ("compacter_core", "exporters", "runtime", "tests")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source, which a fault can be put into."""
    folder = tmp_path_factory.mktemp("source")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run_tests(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests against the packages of the copy; exit code 0 if all pass, 1 if one fails."""
    paths = [copy, copy / "exporters", copy / "runtime"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


def test_without_a_fault_the_tests_pass(copy: Path) -> None:
    result = run_tests(copy, *dict.fromkeys(fault.test for fault in FAULTS))
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_noticed(copy: Path, fault: Fault) -> None:
    path = copy / fault.file
    source = path.read_text()
    assert source.count(fault.right) == 1, f"{fault.file} no longer has one {fault.right!r}"
    path.write_text(source.replace(fault.right, fault.wrong))
    try:
        result = run_tests(copy, fault.test)
    finally:
        path.write_text(source)
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout
