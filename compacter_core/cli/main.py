"""Entry point of the `compacter` command: parse, run one subcommand, print, and turn errors into exit codes."""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from compacter_core.cli import (
    command,
    conformance,
    count,
    export,
    export_adapter,
    extract,
    graft,
    import_adapter,
    inspect,
    pack,
    run,
    train,
    verify,
)
from compacter_core.cli.command import Outcome
from compacter_core.errors import CompacterError, ErrorCode

_MODULES = (
    train,
    export,
    graft,
    pack,
    run,
    verify,
    inspect,
    extract,
    count,
    import_adapter,
    export_adapter,
    conformance,
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `compacter` with all its subcommands."""
    parser = argparse.ArgumentParser(
        prog="compacter",
        description="Train, export, verify and run Compacter and other bottleneck adapters.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"compacter-core {_version()}")
    subparsers = parser.add_subparsers(
        metavar="command", required=True, title="commands", parser_class=command.IntermixedParser
    )
    for module in _MODULES:
        module.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return its exit code.

    Usage errors and `--help` leave through argparse's `SystemExit` (codes 2 and 0).
    """
    args = build_parser().parse_args(argv)
    try:
        outcome = args.run(args)
        _print(outcome, as_json=args.json)
    except CompacterError as error:
        return _fail(error, as_json=args.json)
    except BrokenPipeError:
        # The reader of our output has gone (`compacter inspect x | head`): nothing to report, nowhere to report it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return command.EXIT_OK
    except OSError as error:
        place = error.filename or "the file system"
        return _fail(CompacterError(ErrorCode.E005, f"{place}: {error.strerror or error}"), as_json=args.json)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return command.EXIT_INTERRUPTED
    except Exception as error:
        return _fail_internally(error, debug=args.debug)
    return command.EXIT_OK if outcome.ok else command.EXIT_CHECK_FAILED


def _print(outcome: Outcome, *, as_json: bool) -> None:
    print(json.dumps(outcome.data, indent=2, ensure_ascii=False) if as_json else outcome.text, flush=True)


def _fail(error: CompacterError, *, as_json: bool) -> int:
    line = json.dumps({"error": error.as_dict()}, ensure_ascii=False) if as_json else f"compacter: {error}"
    print(line.replace("\n", " "), file=sys.stderr)
    return command.EXIT_BAD_INPUT


def _fail_internally(error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    summary = " ".join(f"{type(error).__name__}: {error}".split())
    print(f"compacter: internal error, {summary} (add --debug for the traceback)", file=sys.stderr)
    return command.EXIT_INTERNAL


def _version() -> str:
    try:
        return version("compacter-core")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"
