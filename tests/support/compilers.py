"""C compilers for tests: one that counts its calls, and a mark for tests that need one."""

import shutil
import stat
from pathlib import Path

import pytest

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def write_compiler(path: Path, script: str) -> str:
    """Make a program of a shell script; returns what CC is set to for it."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return f"'{path}'"


class CountingCompiler:
    """A compiler that is `cc`, in a folder whose name has a space."""

    def __init__(self, folder: Path) -> None:
        self._calls = folder / "calls"
        self.command = write_compiler(folder / "counting cc", f'echo "$@" >> "{self._calls}"\nexec cc "$@"')
        """What CC is set to for it."""

    @property
    def compilations(self) -> int:
        """How many libraries it was asked for."""
        calls = self._calls.read_text().splitlines() if self._calls.exists() else []
        return sum(" -o " in call for call in calls)
