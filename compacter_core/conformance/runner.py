"""Runs a suite against an implementation: choose, put in place, ask, judge, and go on whatever happens."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final, TextIO

from compacter_core.adapter import DType
from compacter_core.conformance.case import Case
from compacter_core.conformance.compare import Precision
from compacter_core.conformance.implementation import Capabilities, Done
from compacter_core.conformance.judge import Judgement, Reply, judge
from compacter_core.conformance.lists import Entry, Lists, first_match
from compacter_core.conformance.materialise import materialise
from compacter_core.conformance.printable import printable
from compacter_core.conformance.progress import Progress
from compacter_core.conformance.report import GOOD, Report, Result, Row
from compacter_core.conformance.selection import Column, Selection, columns
from compacter_core.conformance.subject import Ceiling, Subject
from compacter_core.conformance.suite import Suite
from compacter_core.conformance.words import Flag, Op, Verdict
from compacter_core.errors import CompacterError, ErrorCode

__all__ = ["LIMITS", "MIB", "USUAL", "Ceilings", "Selection", "run_suite"]

MIB: Final = 2**20
USUAL: Final = Ceiling(60.0, 1024 * MIB)
LIMITS: Final = Ceiling(20.0, 256 * MIB)
_EXPECTED_FAILURES: Final = {
    Verdict.FAILED: Verdict.XFAILED,
    Verdict.ERROR: Verdict.XFAILED,
    Verdict.PASSED: Verdict.XPASSED,
}


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a question may take: usually, and where the case tests limits."""

    usual: Ceiling = USUAL
    limits: Ceiling = LIMITS

    def of(self, case: Case) -> Ceiling:
        """The ceiling of a case."""
        return self.limits if Flag.LIMITS in case.flags else self.usual


def run_suite(
    suite: Suite,
    subject: Subject,
    scratch: Path,
    *,
    selection: Selection | None = None,
    lists: Lists | None = None,
    ceilings: Ceilings | None = None,
    progress: TextIO | None = None,
    reproduce: str | None = None,
) -> Report:
    """Judge an implementation.

    Args:
        suite: the cases.
        subject: the implementation; it is left running.
        scratch: an empty folder for files, which is empty again afterwards but for what the implementation leaves.
        selection: what to run; everything claimed by default.
        lists: what to skip and what is expected to fail.
        ceilings: of time and memory.
        progress: where progress is shown; None shows none.
        reproduce: the command line that a failure completes by `--case ID --dtypes T`.

    Raises:
        CompacterError: E001 if nothing is chosen, or something that is not claimed; E801 for a defective suite; and
            as `Subject.describe`.
    """
    lists, ceilings = lists or Lists(), ceilings or Ceilings()
    capabilities = subject.describe()
    chosen = columns(suite, capabilities, selection or Selection())
    run = _Run(suite, subject, scratch, capabilities, lists, ceilings, reproduce)
    started, began = datetime.now(UTC), time.perf_counter()
    with Progress(sum(len(column.chosen) for column in chosen), progress) as shown:
        rows = tuple(run.column(column, shown) for column in chosen)
    return Report(
        spec=suite.spec,
        manifest_sha256=suite.manifest_sha256,
        capabilities=capabilities,
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - began,
        rows=rows,
        notes=_notes(subject, lists, columns(suite, capabilities, Selection())),
    )


def _notes(subject: Subject, lists: Lists, claimed: Sequence[Column]) -> tuple[str, ...]:
    notes = lists.unused((case.id, column.dtype) for column in claimed for case in column.cases)
    if not subject.has_memory_ceiling:
        notes.append("memory was not measured, and its ceiling not kept: that needs a child process on Linux")
    return tuple(notes)


@dataclass(frozen=True, slots=True)
class _Run:
    """What does not change from case to case."""

    suite: Suite
    subject: Subject
    scratch: Path
    capabilities: Capabilities
    lists: Lists
    ceilings: Ceilings
    reproduce: str | None
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def column(self, column: Column, shown: Progress) -> Row:
        """A class in a type."""
        results = []
        for case in column.chosen:
            results.append(self.case(case, column.dtype))
            shown.step(case.id, is_good=results[-1].verdict in GOOD)
        return Row(column.cls, column.dtype, tuple(results), len(column.cases))

    def case(self, case: Case, dtype: DType | None) -> Result:
        """Ask and judge."""
        skip = first_match(self.lists.skip, case.id, dtype)
        if skip is not None:
            detail = f"on the skip list: {skip.reason}"
            return Result(case=case.id, op=case.op, dtype=dtype, verdict=Verdict.SKIPPED, detail=detail)
        replies, seconds, peaks = self._ask(case, dtype)
        try:
            judgement = judge(self.suite, case, self._precision(dtype), replies)
        finally:
            for reply in replies:
                _remove(*reply.request.files.values(), reply.request.out)
        expected = first_match(self.lists.xfail, case.id, dtype)
        verdict = (
            judgement.verdict if expected is None else _EXPECTED_FAILURES.get(judgement.verdict, judgement.verdict)
        )
        return Result(
            case=case.id,
            op=case.op,
            dtype=dtype,
            verdict=verdict,
            worst_ratio=judgement.worst_ratio,
            detail=_detail(judgement, expected),
            reproduce=self._reproduce(case, dtype, judgement),
            seconds=seconds,
            peak_memory=max(peaks, default=None),
        )

    def _ask(self, case: Case, dtype: DType | None) -> tuple[list[Reply], float, list[int]]:
        """One question; for initialisation three, since its answer has to depend on the seed alone (CNF-10)."""
        changes: list[dict[str, object]] = [{}]
        if case.op is Op.INITIALISE and case.expect.distribution is not None:
            changes += [{}, {"seed": _other_seed(case)}]
        replies: list[Reply] = []
        seconds, peaks = 0.0, []
        for change in changes:
            prefix = str(next(self.numbers))
            request = materialise(self.suite, case, dtype, scratch=self.scratch, prefix=prefix, args=change)
            asked = self.subject.ask(request, self.ceilings.of(case))
            replies.append(Reply(request, asked.answer))
            seconds += asked.seconds
            peaks += [] if asked.peak_memory is None else [asked.peak_memory]
            if not isinstance(asked.answer, Done):
                break
        return replies, seconds, peaks

    def _precision(self, dtype: DType | None) -> Precision | None:
        return None if dtype is None else (dtype, self.capabilities.accumulate[dtype])

    def _reproduce(self, case: Case, dtype: DType | None, judgement: Judgement) -> str | None:
        if self.reproduce is None or judgement.verdict not in (Verdict.FAILED, Verdict.ERROR):
            return None
        return f"{self.reproduce} --case {case.id}" + (f" --dtypes {dtype.value}" if dtype else "")


def _detail(judgement: Judgement, expected: Entry | None) -> str | None:
    parts = [f"on the list of expected failures: {expected.reason}"] if expected is not None else []
    parts += [printable(judgement.detail)] if judgement.detail else []
    return "\n".join(parts) or None


def _other_seed(case: Case) -> int:
    seed = case.args["seed"]
    if type(seed) is not int:
        raise CompacterError(ErrorCode.E801, f"suite: seed of case {case.id}", value=seed, expected="an integer")
    return seed + 1 if seed < 2**31 else seed - 1


def _remove(*paths: Path) -> None:
    """What is left of a case, whatever the implementation made of it."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
