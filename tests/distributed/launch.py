"""Starts a module in two processes, with torchrun or with accelerate."""

import os
import subprocess
import sys
from pathlib import Path

PROCESSES = 2
_ROOT = Path(__file__).parents[2]


def torchrun(module: str, *arguments: str, **environment: str) -> str:
    """Runs `python -m module arguments` in each process and returns stdout; fails with what is on stderr."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
    return _launched(launcher, module, *arguments, **environment)


def accelerate_launch(module: str, *arguments: str, **environment: str) -> str:
    """As `torchrun`. Without MPI its --cpu starts one process; --multi_gpu starts several, wherever they compute."""
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", str(PROCESSES), "--num_machines", "1"]
    launcher += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    return _launched(launcher, module, *arguments, ACCELERATE_USE_CPU="true", **environment)


def _launched(launcher: list[str], module: str, *arguments: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", module, *arguments],
        cwd=_ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
