"""Serving needs neither PyTorch nor the tools of training and export."""

from pathlib import Path

from tests.support.blocking import run_blocked
from tests.support.served import write_served

_TOOLS = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "datasets", "accelerate")


def test_a_session_runs_without_pytorch(tmp_path: Path) -> None:
    write_served(tmp_path, labels=["x", "y", "z"])
    code = f"from compacter_runtime import Session\nprint(Session({str(tmp_path)!r}).classify(['a b'])[0].label)"
    done = run_blocked(code, _TOOLS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"x", "y", "z"}
