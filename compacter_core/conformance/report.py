"""What a run found, as data and as text (CNF-19)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from compacter_core.adapter import DType
from compacter_core.conformance.compare import shown_ratio
from compacter_core.conformance.implementation import Capabilities
from compacter_core.conformance.protocol import capabilities_to_json
from compacter_core.conformance.words import ConformanceClass, Op, Verdict

REPORT_VERSION: Final = 1
GOOD: Final = frozenset({Verdict.PASSED})
_COUNTS: Final = {
    Verdict.PASSED: "passed",
    Verdict.FAILED: "failed",
    Verdict.ERROR: "errors",
    Verdict.SKIPPED: "skipped",
    Verdict.XFAILED: "xfailed",
    Verdict.XPASSED: "xpassed",
}
_SHOWN_FAILURES: Final = 30
_SHOWN_NAMES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One case in one type.

    Args:
        case: id.
        op: operation.
        dtype: None for operations without numbers.
        verdict: how it went.
        worst_ratio: of error to bound; None without numbers. It is infinite where no bound could help.
        detail: got and expected, or the reason.
        reproduce: a command line that asks this alone.
        seconds: that the implementation took.
        peak_memory: in bytes, above what it had before; None where it is not measured.
    """

    case: str
    op: Op
    dtype: DType | None
    verdict: Verdict
    worst_ratio: float | None = None
    detail: str | None = None
    reproduce: str | None = None
    seconds: float = 0.0
    peak_memory: int | None = None

    @property
    def name(self) -> str:
        """Such as "forward/nan/relu [F32]"."""
        return self.case if self.dtype is None else f"{self.case} [{self.dtype.value}]"

    @property
    def text(self) -> str | None:
        """What there is to say: the detail, then how to see it again."""
        again = None if self.reproduce is None else f"reproduce: {self.reproduce}"
        return "\n".join(filter(None, (self.detail, again))) or None

    def as_dict(self) -> dict[str, Any]:
        """As in the report."""
        return {
            "case": self.case,
            "op": self.op.value,
            "class": self.op.belongs_to.value,
            "dtype": None if self.dtype is None else self.dtype.value,
            "verdict": self.verdict.value,
            "worst_ratio": _finite(self.worst_ratio),
            "detail": self.text,
            "seconds": round(self.seconds, 6),
            "peak_memory": self.peak_memory,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """One class in one type.

    Args:
        cls: the class.
        dtype: None for a class without numbers.
        results: of the cases that were asked for.
        cases: how many the suite has.
    """

    cls: ConformanceClass
    dtype: DType | None
    results: tuple[Result, ...]
    cases: int

    @property
    def name(self) -> str:
        """Such as "F F32"."""
        return self.cls.value if self.dtype is None else f"{self.cls.value} {self.dtype.value}"

    @property
    def conformant(self) -> bool:
        """Whether every case of the suite passed; some that were not run show nothing (CNF-4)."""
        return 0 < self.cases == self.count(Verdict.PASSED)

    @property
    def worst_ratio(self) -> float | None:
        """The largest finite one."""
        ratios = [ratio for result in self.results if (ratio := _finite(result.worst_ratio)) is not None]
        return max(ratios, default=None)

    def count(self, verdict: Verdict) -> int:
        """How many results have this verdict."""
        return sum(result.verdict is verdict for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        """As in the report."""
        return {
            "class": self.cls.value,
            "dtype": None if self.dtype is None else self.dtype.value,
            **{name: self.count(verdict) for verdict, name in _COUNTS.items()},
            "conformant": self.conformant,
            "worst_ratio": self.worst_ratio,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole run.

    Args:
        spec: version of the suite's specification.
        manifest_sha256: digest of the suite.
        capabilities: what the implementation says about itself.
        started: when, in UTC, ISO 8601.
        seconds: how long it took.
        rows: one for each class and type that was asked for.
        notes: what a reader should know besides.
    """

    spec: str
    manifest_sha256: str
    capabilities: Capabilities
    started: str
    seconds: float
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def results(self) -> list[Result]:
        """All of them."""
        return [result for row in self.rows for result in row.results]

    @property
    def conformant(self) -> bool:
        """Whether the implementation conforms in every class and type that was asked for."""
        return bool(self.rows) and all(row.conformant for row in self.rows)

    @property
    def all_passed(self) -> bool:
        """Whether every case that was asked for passed."""
        results = self.results
        return bool(results) and all(result.verdict in GOOD for result in results)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON (CNF-19)."""
        return {
            "report": REPORT_VERSION,
            "suite": {"spec": self.spec, "manifest_sha256": self.manifest_sha256},
            **capabilities_to_json(self.capabilities),
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "classes": [row.as_dict() for row in self.rows],
            "results": [result.as_dict() for result in self.results],
            "conformant": self.conformant,
        }

    def as_text(self) -> str:
        """A table of the classes, then what did not pass."""
        who = f"{self.capabilities.name} {self.capabilities.version}"
        head = f"{who} against suite {self.spec} ({self.manifest_sha256[:12]}), {self.seconds:.1f} s"
        parts = [head, _table(self.rows), *_failures(self.results), *(f"note: {note}" for note in self.notes)]
        return "\n".join([*parts, _conclusion(self)])


def _table(rows: Sequence[Row]) -> str:
    cells = [("class", "passed", "worst error/bound", "")]
    for row in rows:
        ratio = "" if row.worst_ratio is None else shown_ratio(row.worst_ratio)
        others = [f"{row.count(v)} {_COUNTS[v]}" for v in Verdict if v is not Verdict.PASSED and row.count(v)]
        left_out = row.cases - len(row.results)
        others += [f"{left_out} not chosen"] * bool(left_out)
        state = "conformant" if row.conformant else ", ".join(others) or "no cases"
        cells.append((row.name, f"{row.count(Verdict.PASSED)}/{row.cases}", ratio, state))
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), line[1].rjust(widths[1]), line[2].rjust(widths[2]), line[3]]).rstrip()
        for line in cells
    )


def _failures(results: Sequence[Result]) -> list[str]:
    """What did not pass; results that say the same are one entry, with the first one's way to see it again."""
    groups: dict[tuple[Verdict, str | None], list[Result]] = {}
    for result in results:
        if result.verdict in (Verdict.FAILED, Verdict.ERROR, Verdict.XPASSED):
            groups.setdefault((result.verdict, result.detail), []).append(result)
    shown = [_failure(group) for group in list(groups.values())[:_SHOWN_FAILURES]]
    more = sum(map(len, list(groups.values())[_SHOWN_FAILURES:]))
    return shown + [f"... and {more} more, see the report"] * bool(more)


def _failure(group: Sequence[Result]) -> str:
    names = ", ".join(result.name for result in group[:_SHOWN_NAMES])
    more = len(group) - _SHOWN_NAMES
    head = f"{group[0].verdict.value.upper()} {names}" + (f" and {more} more" if more > 0 else "")
    lines = (group[0].text or "").splitlines()
    if len(group) > 1:
        head += f" ({len(group)} cases say the same)"
    return "\n".join([head, *(f"    {line}" for line in lines)])


def _conclusion(report: Report) -> str:
    if report.conformant:
        return f"conformant: {', '.join(row.name for row in report.rows)}"
    if report.all_passed:
        return "everything that was run passed; conformance would take every case of a class"
    return f"not conformant: {', '.join(row.name for row in report.rows if not row.conformant)}"


def _finite(ratio: float | None) -> float | None:
    """JSON knows no infinity."""
    return ratio if ratio is not None and math.isfinite(ratio) else None
