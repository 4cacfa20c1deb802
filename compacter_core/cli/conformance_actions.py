"""What the commands under `compacter conformance` do."""

import argparse
import json
import shlex
import signal
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compacter_core.conformance.report import Report
    from compacter_core.conformance.runner import Ceilings
    from compacter_core.conformance.selection import Selection
    from compacter_core.conformance.subject import Subject


def run(args: argparse.Namespace) -> Outcome:
    """Run the suite; exit code 1 if a class that was asked for does not conform."""
    from compacter_core.conformance.lists import load_lists
    from compacter_core.conformance.progress import standard_error
    from compacter_core.conformance.runner import run_suite
    from compacter_core.conformance.suite import default_suite, load_suite

    suite = load_suite(args.suite or default_suite())
    lists = None if args.lists is None else load_lists(args.lists)
    with (
        _termination_as_interrupt(),
        tempfile.TemporaryDirectory(prefix="compacter-conformance-", ignore_cleanup_errors=True) as folder,
    ):
        scratch = Path(folder).resolve()
        subject = _subject(args, scratch)
        try:
            report = run_suite(
                suite,
                subject,
                scratch,
                selection=_selection(args),
                lists=lists,
                ceilings=_ceilings(args),
                progress=None if args.json else standard_error(),
                reproduce=_reproduce(args),
            )
        finally:
            subject.close()
    _write(report, args)
    return Outcome(report.as_dict(), report.as_text(), ok=report.all_passed if args.case else report.conformant)


def list_cases(args: argparse.Namespace) -> Outcome:
    """List the cases."""
    from compacter_core.conformance.suite import default_suite, load_suite

    suite = load_suite(args.suite or default_suite())
    selection = _selection(args)
    rows = []
    for case in suite.cases.values():
        cls = case.op.belongs_to
        dtypes = [dtype for dtype in case.dtypes if selection.dtypes is None or dtype in selection.dtypes]
        wanted = selection.classes is None or cls in selection.classes
        if wanted and selection.has(case) and (dtypes or not case.dtypes):
            rows.append(
                {
                    "case": case.id,
                    "op": case.op.value,
                    "class": cls.value,
                    "dtypes": [dtype.value for dtype in dtypes],
                    "flags": sorted(flag.value for flag in case.flags),
                    "statements": list(case.statements),
                    "comment": case.comment,
                }
            )
    lines = [f"{row['class']} {row['case']} {','.join(row['dtypes'])}".rstrip() for row in rows]
    data = {"suite": {"spec": suite.spec, "manifest_sha256": suite.manifest_sha256}, "cases": rows}
    return Outcome(data, "\n".join([*lines, f"{len(rows)} cases"]))


def validate_suite(args: argparse.Namespace) -> Outcome:
    """Check a suite; exit code 1 if something is wrong with it."""
    from compacter_core.conformance.suite import default_suite
    from compacter_core.conformance.validate import validate

    directory = args.suite or default_suite()
    problems = [str(problem) for problem in validate(directory)]
    text = "\n".join([*problems, f"{directory}: {len(problems)} problems" if problems else f"{directory}: valid"])
    return Outcome({"suite": str(directory), "problems": problems}, text, ok=not problems)


def generate_suite(args: argparse.Namespace) -> Outcome:
    """Make the suite, or compare it with what would be made; exit code 1 if it is out of date."""
    from compacter_core.conformance.generate.suite import generate
    from compacter_core.conformance.suite import default_suite

    directory = args.output or default_suite()
    different = generate(directory, check=args.check)
    if not args.check:
        return Outcome({"suite": str(directory)}, f"wrote {directory}")
    state = f"{len(different)} files are out of date" if different else "up to date"
    text = "\n".join([*different, f"{directory}: {state}"])
    return Outcome({"suite": str(directory), "different": different}, text, ok=not different)


def diff_reports(args: argparse.Namespace) -> Outcome:
    """Compare two reports; exit code 1 if something got worse."""
    from compacter_core.conformance import diff

    found = diff.diff_reports(args.before, args.after)
    return Outcome(found.as_dict(), found.as_text(), ok=not found.is_worse)


@contextmanager
def _termination_as_interrupt() -> "Iterator[None]":
    """While it lasts SIGTERM, such as that of a CI job's time-out, ends the run as Ctrl-C does: it is cleaned up."""
    if threading.current_thread() is not threading.main_thread():  # only there signals can be handled
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _subject(args: argparse.Namespace, scratch: Path) -> "Subject":
    from compacter_core.conformance.child import START_SECONDS, Child
    from compacter_core.conformance.resolve import resolve
    from compacter_core.conformance.subject import InProcess

    if args.command is None:
        return InProcess(resolve(args.implementation))
    return Child(args.command, scratch, start_seconds=args.start_timeout or START_SECONDS)


def _selection(args: argparse.Namespace) -> "Selection":
    from compacter_core.adapter import DType
    from compacter_core.conformance.selection import Selection
    from compacter_core.conformance.words import ConformanceClass

    return Selection(
        classes=None if args.classes is None else tuple(map(ConformanceClass, args.classes)),
        dtypes=None if args.dtypes is None else tuple(map(DType, args.dtypes)),
        patterns=tuple(args.case or ()),
    )


def _ceilings(args: argparse.Namespace) -> "Ceilings":
    from compacter_core.conformance.runner import MIB, Ceilings
    from compacter_core.conformance.subject import Ceiling

    usual, limits = (
        Ceiling(args.timeout or each.seconds, each.memory if args.memory is None else int(args.memory * MIB))
        for each in (Ceilings().usual, Ceilings().limits)
    )
    return Ceilings(usual, limits)


def _reproduce(args: argparse.Namespace) -> str:
    words = ["compacter", "conformance", "run"]
    for option in ("command", "implementation", "suite"):
        if (value := getattr(args, option)) is not None:
            words += [f"--{option}", str(value)]
    for option in ("timeout", "start_timeout", "memory"):
        if (value := getattr(args, option)) is not None:
            words += [f"--{option.replace('_', '-')}", repr(value).removesuffix(".0")]
    return shlex.join(words)


def _write(report: "Report", args: argparse.Namespace) -> None:
    from compacter_core.conformance.junit import junit_bytes
    from compacter_core.format.atomic import atomic_write

    if args.report is not None:
        text = json.dumps(report.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        atomic_write(args.report, f"{text}\n".encode(errors="replace"))
    if args.junit is not None:
        atomic_write(args.junit, junit_bytes(report))
    if args.json:
        for note in report.notes:
            print(f"note: {note}", file=sys.stderr)
