"""A few seconds of coverage-guided fuzzing, where atheris is installed; Hypothesis runs the same targets everywhere."""

import importlib.util
from pathlib import Path

import pytest

from tests.fuzz import campaign
from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris")

RUNS = 1_000


@pytest.mark.spec("SEC-7")
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(target: str, tmp_path: Path) -> None:
    summary = campaign.run(target, tmp_path, runs=RUNS, seconds=60, jobs=1)
    assert summary.findings == ()
    assert summary.executions >= RUNS
    assert summary.edges > 0
    assert summary.corpus > len(list(TARGETS[target].seeds())) / 2
    assert f"{summary.executions:,} executions" in summary.as_text()
    assert summary.as_dict()["target"] == target


def test_a_process_that_takes_too_much_memory_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "MEMORY_MIB", 1)
    assert campaign.run("header", tmp_path, runs=10**9, seconds=60, jobs=1).findings
