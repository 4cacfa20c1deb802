"""Starts a module in two processes with torchrun."""

import os
import subprocess
import sys
from pathlib import Path

PROCESSES = 2
_ROOT = Path(__file__).parents[2]


def torchrun(module: str, *arguments: str, **environment: str) -> str:
    """Runs `python -m module arguments` in each process and returns stdout; fails with what is on stderr."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
    result = subprocess.run(
        [*command, "-m", module, *arguments],
        cwd=_ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
