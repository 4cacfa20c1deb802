"""`compacter conformance`: does an implementation, in any language, follow the specification?"""

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import Outcome, new_parser

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers
    from compacter_core.conformance.report import Report
    from compacter_core.conformance.runner import Ceilings, Selection
    from compacter_core.conformance.subject import Subject

CLASSES = ("R", "W", "F", "G", "P", "I", "O")
DTYPES = ("F64", "F32", "F16", "BF16")
OPERATIONS_HELP = "R reader, W writer, F forward, G gradient, P placement, I initialisation, O ONNX"

_SUMMARY = "Judge an implementation by the specification's test vectors"
_GROUP_EXAMPLES = """
examples:
  compacter conformance run --command "node impl.mjs" --report report.json
  compacter conformance run --implementation reference
  compacter conformance list --classes F --json

exit codes: 0 done, 1 not conformant, 2 bad input or usage, 3 internal error"""
_RUN_EXAMPLES = """
compacter conformance run --command "node impl.mjs"
compacter conformance run --implementation reference --classes R F --dtypes F32 F64
compacter conformance run --implementation mymodule:create --case "forward/lphm/*"
compacter conformance run --command ./impl --lists known.toml --report report.json --junit report.xml
"""
_LIST_EXAMPLES = """
compacter conformance list
compacter conformance list --classes F G --dtypes F16 --case "*/lphm/*"
"""
_VALIDATE_EXAMPLES = """
compacter conformance validate
compacter conformance validate my-suite --json
"""
_GENERATE_EXAMPLES = """
compacter conformance generate --check
compacter conformance generate -o vectors
"""
_DIFF_EXAMPLES = """
compacter conformance diff before.json after.json
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command and the commands under it."""
    group = subparsers.add_parser(
        "conformance",
        help=_SUMMARY,
        description=f"{_SUMMARY}.",
        epilog=_GROUP_EXAMPLES.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = group.add_subparsers(metavar="command", required=True, title="commands")
    _add_run(commands)
    listing = new_parser(commands, "list", list_cases, summary="List the cases of a suite", examples=_LIST_EXAMPLES)
    _add_suite(listing)
    _add_selection(listing)
    validate = new_parser(
        commands,
        "validate",
        validate_suite,
        summary="Check a suite: its manifest, schemas, files, and that it covers the specification",
        examples=_VALIDATE_EXAMPLES,
    )
    validate.add_argument(
        "suite", type=Path, nargs="?", metavar="DIR", help="the suite (default: the one that came along)"
    )
    generate = new_parser(
        commands,
        "generate",
        generate_suite,
        summary="Make the suite, the same bytes every time",
        examples=_GENERATE_EXAMPLES,
    )
    generate.add_argument("--check", action="store_true", help="write nothing; say whether the suite is up to date")
    generate.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="the suite (default: the one that came along)"
    )
    diff = new_parser(
        commands,
        "diff",
        diff_reports,
        summary="Compare two reports; exit code 1 if something got worse",
        examples=_DIFF_EXAMPLES,
    )
    diff.add_argument("before", type=Path, metavar="A", help="a report")
    diff.add_argument("after", type=Path, metavar="B", help="a later report")


def _add_run(commands: "Subparsers") -> None:
    parser = new_parser(
        commands,
        "run",
        run,
        summary="Run the suite against an implementation and report where it conforms",
        examples=_RUN_EXAMPLES,
    )
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument(
        "--command", metavar="LINE", help="a program that speaks the protocol on standard input and output"
    )
    subject.add_argument(
        "--implementation",
        metavar="NAME",
        help="one in this process: reference, pytorch, onnxruntime, onnx-reference, or module:factory",
    )
    _add_suite(parser)
    _add_selection(parser)
    parser.add_argument("--lists", type=Path, metavar="FILE", help="TOML with [[skip]] and [[xfail]] entries")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report, as JSON")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the report as JUnit XML")
    parser.add_argument(
        "--timeout",
        type=_positive,
        metavar="S",
        help="seconds a case may take (default: 60, and 20 where limits are tested)",
    )
    parser.add_argument(
        "--memory",
        type=_positive,
        metavar="MIB",
        help="memory a case may take above what the program had (default: 1024, and 256 where limits are tested)",
    )


def _add_suite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", type=Path, metavar="DIR", help="the suite (default: the one that came along)")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classes", nargs="+", choices=CLASSES, metavar="CLASS", help=OPERATIONS_HELP)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, metavar="TYPE", help=", ".join(DTYPES))
    parser.add_argument("--case", nargs="+", action="extend", metavar="GLOB", help="ids, or shell patterns of ids")


def run(args: argparse.Namespace) -> Outcome:
    """Run the suite; exit code 1 if a class that was asked for does not conform."""
    from compacter_core.conformance.lists import load_lists
    from compacter_core.conformance.progress import standard_error
    from compacter_core.conformance.runner import run_suite
    from compacter_core.conformance.suite import default_suite, load_suite

    suite = load_suite(args.suite or default_suite())
    lists = None if args.lists is None else load_lists(args.lists)
    with tempfile.TemporaryDirectory(prefix="compacter-conformance-", ignore_cleanup_errors=True) as folder:
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


def _subject(args: argparse.Namespace, scratch: Path) -> "Subject":
    from compacter_core.conformance.child import Child
    from compacter_core.conformance.resolve import resolve
    from compacter_core.conformance.subject import InProcess

    return InProcess(resolve(args.implementation)) if args.command is None else Child(args.command, scratch)


def _selection(args: argparse.Namespace) -> "Selection":
    from compacter_core.adapter import DType
    from compacter_core.conformance.runner import Selection
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


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
