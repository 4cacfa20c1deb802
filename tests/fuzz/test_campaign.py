"""A few seconds of coverage-guided fuzzing, where atheris is installed; Hypothesis runs the same targets everywhere."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import campaign
from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris")

RUNS = 1_000


@pytest.mark.spec("SEC-7")
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(target: str, tmp_path: Path) -> None:
    # By a small process of its own: what the system calls the peak memory of a process begins with its parent's.
    command = [sys.executable, "-m", "tests.fuzz", "--target", target, "--runs", str(RUNS), "--seconds", "60", "--json"]
    done = subprocess.run([*command, "--folder", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (summary,) = json.loads(done.stdout)
    assert (summary["target"], summary["findings"]) == (target, [])
    assert summary["executions"] >= RUNS
    assert summary["edges"] > 0
    assert summary["corpus"] > len(list(TARGETS[target].seeds())) / 2


def test_a_process_that_takes_too_much_memory_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "MEMORY_MIB", 1)
    summary = campaign.run("header", tmp_path, runs=10**9, seconds=60, jobs=1)
    assert summary.findings
    assert summary.as_text().endswith(f"{len(summary.findings)} findings")
