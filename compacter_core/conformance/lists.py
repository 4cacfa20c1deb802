"""Skip and expected-failure lists: TOML beside an implementation, with a reason for each entry (CNF-17).

[[skip]]
case = "forward/gelu/*"
dtype = "F16"            # optional
reason = "gelu is not implemented"

[[xfail]]
case = "gradient/phm/shared-001"
reason = "the gradient of a shared rule is that of the last site"
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from compacter_core.adapter import DType
from compacter_core.errors import CompacterError, ErrorCode

_KINDS: Final = ("skip", "xfail")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list: cases by a shell pattern, perhaps in one type only, and why."""

    case: str
    dtype: DType | None
    reason: str

    def matches(self, case: str, dtype: DType | None) -> bool:
        """Whether it is about this case in this type."""
        return fnmatchcase(case, self.case) and self.dtype in (None, dtype)


@dataclass(frozen=True, slots=True)
class Lists:
    """What is not run, and what is known to fail."""

    skip: tuple[Entry, ...] = ()
    xfail: tuple[Entry, ...] = ()

    def unused(self, tasks: Iterable[tuple[str, DType | None]]) -> list[str]:
        """The entries, in words, that are about none of the cases and types: a typing error, or out of date."""
        known = list(tasks)
        return [
            f"{kind} entry {entry.case!r}{'' if entry.dtype is None else f' in {entry.dtype.value}'} matches no case"
            for kind, entries in zip(_KINDS, (self.skip, self.xfail), strict=True)
            for entry in entries
            if not any(entry.matches(case, dtype) for case, dtype in known)
        ]


def first_match(entries: Iterable[Entry], case: str, dtype: DType | None) -> Entry | None:
    """The first entry about this case in this type."""
    return next((entry for entry in entries if entry.matches(case, dtype)), None)


def load_lists(path: Path) -> Lists:
    """The lists in a TOML file.

    Raises:
        CompacterError: E005 if it cannot be read, E801 if it is no such file.
    """
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CompacterError(ErrorCode.E005, f"lists: cannot read: {error.strerror}", value=str(path)) from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise CompacterError(ErrorCode.E801, f"{path}: {error}", expected="a TOML file") from error
    if not set(value) <= set(_KINDS):
        raise CompacterError(ErrorCode.E801, f"{path}: keys", value=sorted(value), expected="[[skip]] and [[xfail]]")
    return Lists(**{kind: _entries(value.get(kind, []), kind, path) for kind in _KINDS})


def _entries(value: object, kind: str, path: Path) -> tuple[Entry, ...]:
    if not isinstance(value, list):
        raise CompacterError(ErrorCode.E801, f"{path}: {kind}", value=value, expected=f"[[{kind}]]")
    return tuple(_entry(item, f"{path}: {kind} entry {number}") for number, item in enumerate(value, 1))


def _entry(value: object, place: str) -> Entry:
    if not isinstance(value, dict) or not {"case", "reason"} <= set(value) <= {"case", "reason", "dtype"}:
        raise CompacterError(ErrorCode.E801, place, value=value, expected="case, reason, and optionally dtype")
    case, reason, dtype = value["case"], value["reason"], value.get("dtype")
    if not isinstance(case, str) or not isinstance(reason, str) or not reason.strip():
        raise CompacterError(ErrorCode.E801, place, value=value, expected="case and reason as texts that say something")
    if dtype is not None and dtype not in [*DType]:
        raise CompacterError(ErrorCode.E801, f"{place}: dtype", value=dtype, expected=", ".join(DType))
    return Entry(case, None if dtype is None else DType(dtype), reason.strip())
