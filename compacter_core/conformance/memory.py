"""Memory of a process group on Linux, read from /proc: how much it took since a moment, its peak included."""

import os
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_RESET_PEAK: Final = "5"
_KIB: Final = 1024


def is_measured() -> bool:
    """Whether this system tells the memory of other processes."""
    return (_PROC / "self" / "clear_refs").exists()


class MemoryWatch:
    """How much memory a process and those that it started take above what they had at `begin`."""

    def __init__(self, group: int) -> None:
        self._group = group
        self._baseline: dict[int, int] = {}
        self._has_peak: set[int] = set()
        self._peak: dict[int, int] = {}

    def begin(self) -> None:
        """Start counting from now."""
        self._baseline, self._peak, self._has_peak = {}, {}, set()
        for pid in _members(self._group):
            if (resident := _status(pid).get("VmRSS")) is not None:
                self._baseline[pid] = resident
                if _reset_peak(pid):
                    self._has_peak.add(pid)

    def peak(self) -> int:
        """The most memory since `begin`, in bytes: exact where the system counts it, else the most seen so far."""
        for pid in _members(self._group):
            status = _status(pid)
            # A process that was not there at `begin` has had all of its memory since.
            is_exact = pid in self._has_peak or pid not in self._baseline
            now = status.get("VmHWM" if is_exact else "VmRSS", 0)
            self._peak[pid] = max(self._peak.get(pid, 0), now - self._baseline.get(pid, 0))
        return sum(self._peak.values())


def _status(pid: int) -> dict[str, int]:
    """The sizes of a process in bytes by their names in /proc; empty if it has ended."""
    try:
        lines = (_PROC / str(pid) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    sizes = (line.split() for line in lines if line.startswith(("VmRSS:", "VmHWM:")))
    return {fields[0].removesuffix(":"): int(fields[1]) * _KIB for fields in sizes}


def _reset_peak(pid: int) -> bool:
    try:
        (_PROC / str(pid) / "clear_refs").write_text(_RESET_PEAK)
    except OSError:  # another user's process, or a kernel without it
        return False
    return True


def _members(group: int) -> list[int]:
    """The processes of a group: a wrapper such as npx runs the real program as its child."""
    return [
        int(entry.name) for entry in os.scandir(_PROC) if entry.name.isdecimal() and _group(int(entry.name)) == group
    ]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:  # has ended meanwhile
        return None
