"""Run Python in a child process in which chosen packages cannot be imported."""

import subprocess
import sys
from collections.abc import Iterable

_BLOCKER = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    blocked = set({blocked!r})

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.blocked:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
        return None

sys.meta_path.insert(0, Blocker())
"""


def run_blocked(code: str, blocked: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter where importing any of the top-level packages `blocked` fails."""
    program = _BLOCKER.format(blocked=sorted(blocked)) + code
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
