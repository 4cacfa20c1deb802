"""A run leaves no file in the folder for temporary files, and no child, however it ends."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINIMAL = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'examples/minimal/implementation.py'))}"

# A shell that starts the tests in the background has them ignore Ctrl-C, and children inherit that.
_RUN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from compacter_core.cli.main import main; raise SystemExit(main())"
)


def start(temporary: Path, child: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _RUN, "conformance", "run", "--command", child]
    command += ["--classes", "F", "--dtypes", "F32", "--case", "forward/exact/dense/*"]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "TMPDIR": str(temporary)}, stderr=subprocess.PIPE, text=True
    )


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def hanging(tmp_path: Path) -> str:
    """A child that notes its process id once it is asked its first question, and never answers."""
    script = tmp_path / "hanging.py"
    start = {"implementation": {"name": "n", "version": "1"}, "claims": {"F": ["F32"]}, "accumulate": {"F32": "F32"}}
    script.write_text(
        "import json, os, pathlib, sys, time\n"
        "sys.stdin.readline()\n"
        f"print(json.dumps({{'seq': 0, 'ok': {start}}}), flush=True)\n"
        "sys.stdin.readline()\n"
        f"pathlib.Path({str(tmp_path / 'new')!r}).write_text(str(os.getpid()))\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(tmp_path / 'pid')!r})\n"
        "time.sleep(600)\n"
    )
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("child", "code"), [(MINIMAL, 0), (f"{shlex.quote(sys.executable)} -c 'raise SystemExit(3)'", 2)]
)
def test_nothing_is_left_at_the_end(temporary: Path, child: str, code: int) -> None:
    process = start(temporary, child)
    process.communicate()
    assert process.returncode == code
    assert list(temporary.iterdir()) == []


def test_nothing_is_left_of_a_child_that_was_killed(tmp_path: Path, temporary: Path, hanging: str) -> None:
    process = start(temporary, hanging)
    until((tmp_path / "pid").exists)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    (tmp_path / "pid").unlink()
    process.send_signal(signal.SIGINT)  # it would go on with the next question
    process.communicate()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_a_run_that_is_ended(
    tmp_path: Path, temporary: Path, hanging: str, ending: signal.Signals
) -> None:
    process = start(temporary, hanging)
    until((tmp_path / "pid").exists)
    child = int((tmp_path / "pid").read_text())
    assert len(list(temporary.iterdir())) == 1
    process.send_signal(ending)
    _, said = process.communicate()
    assert (process.returncode, said) == (130, "interrupted\n")
    assert list(temporary.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
