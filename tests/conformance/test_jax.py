"""The JAX implementation conforms in its classes without long compilations: files and placement, in F32.

XLA compiles every case, minutes in all for values and gradients: those are left to `make conformance`, but for a few.
"""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from compacter_core.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="the older environment has no jax")
@pytest.mark.parametrize(
    ("choice", "classes"),
    [
        (["--classes", "R", "P", "--dtypes", "F32"], {"R", "P"}),
        (["--case", "forward/lphm/*", "gradient/lphm/*", "--dtypes", "F64"], {"F", "G"}),
    ],
    ids=["files and placement", "compacter"],
)
def test_jax_conforms(choice: list[str], classes: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    report = tmp_path / "report.json"
    command = f"{sys.executable} -m examples.jax"
    assert main(["conformance", "run", "--command", command, *choice, "--report", str(report)]) == 0
    found = json.loads(report.read_text(encoding="utf-8"))["classes"]
    assert {one["class"] for one in found if one["passed"]} == classes
    assert all(one["failed"] == one["errors"] == one["skipped"] == 0 for one in found)
