"""The example in examples/minimal conforms in class F, in F32 and F64."""

import json
import shlex
import sys
from pathlib import Path

from compacter_core.cli.main import main

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "minimal" / "implementation.py"


def test_minimal_conforms(tmp_path: Path) -> None:
    """The kit runs every case of class F in both types, and all of them pass."""
    report = tmp_path / "report.json"
    command = shlex.join([sys.executable, str(PROGRAM)])
    assert main(["conformance", "run", "--command", command, "--report", str(report)]) == 0
    found = json.loads(report.read_text(encoding="utf-8"))
    assert {(each["class"], each["dtype"]): each["conformant"] for each in found["classes"]} == {
        ("F", "F32"): True,
        ("F", "F64"): True,
    }
