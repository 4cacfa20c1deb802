"""The Triton kernels, run by Triton's interpreter; skipped where Triton is not installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("triton_checks.py")


def test_the_kernels_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", str(CHECKS)]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKS.parents[2],
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert result.returncode == 0, result.stdout[-4000:]
    assert "passed" in result.stdout
