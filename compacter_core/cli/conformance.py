"""`compacter conformance`: does an implementation, in any language, follow the specification?"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from compacter_core.cli.command import new_parser
from compacter_core.cli.conformance_actions import diff_reports, generate_suite, list_cases, run, validate_suite

if TYPE_CHECKING:
    from compacter_core.cli.command import Subparsers

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
    _add_list(commands)
    _add_validate(commands)
    _add_generate(commands)
    _add_diff(commands)


def _add_list(commands: "Subparsers") -> None:
    listing = new_parser(commands, "list", list_cases, summary="List the cases of a suite", examples=_LIST_EXAMPLES)
    _add_suite(listing)
    _add_selection(listing)


def _add_validate(commands: "Subparsers") -> None:
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


def _add_generate(commands: "Subparsers") -> None:
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


def _add_diff(commands: "Subparsers") -> None:
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
        "--start-timeout",
        type=_positive,
        metavar="S",
        help="seconds that --command may take to answer the first message, imports included (default: 60)",
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


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
