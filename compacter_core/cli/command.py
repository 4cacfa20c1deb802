"""What a subcommand is: a module with `add_parser(subparsers)`, which names the function that runs it.

A subcommand module imports at its top nothing heavier than this one, so that `compacter --help` answers at once and
works in every installation. What it needs to run it imports when it runs, inside `needs(extra)`.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compacter_core.errors import CompacterError, ErrorCode

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

EXIT_OK = 0
EXIT_CHECK_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERNAL = 3
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a subcommand found, for both kinds of reader.

    Args:
        data: JSON-compatible, printed on stdout under `--json`.
        text: printed on stdout otherwise.
        ok: false if the command did its work and the answer is no (exit code 1).
    """

    data: Mapping[str, object]
    text: str
    ok: bool = True


Run = Callable[[argparse.Namespace], Outcome]


class IntermixedParser(argparse.ArgumentParser):
    """The parser of a command, whose positional arguments may stand before, between and behind its options.

    `argparse` gives a list of positional arguments what stands before the first option, or nothing.
    """

    _passes = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Takes the options first, then all else as positional arguments, unless there are subcommands."""
        if self._passes or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._passes = True  # each of the two passes calls this method again
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._passes = False


def new_parser(
    subparsers: "Subparsers", name: str, run: Run, *, summary: str, examples: str
) -> argparse.ArgumentParser:
    """Add subcommand `name`, run by `run`, with the options that all of them have.

    Args:
        subparsers: from `argparse.ArgumentParser.add_subparsers`.
        name: the word typed after `compacter`.
        run: called with the parsed arguments; raises `CompacterError` for bad input.
        summary: one line.
        examples: command lines, one per line, shown under the options.
    """
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary}.",
        epilog=f"examples:\n{_indented(examples)}\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print the result (and an error) as JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an internal error")
    parser.set_defaults(run=run)
    return parser


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a missing package into E004, which says how to install the extra that brings it.

    Example:
        with needs("onnx"):
            from compacter_exporters.graft import graft
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise CompacterError(
            ErrorCode.E004,
            f"this command needs the package {(error.name or str(error)).split('.')[0]}",
            remedy=f'Install it with: pip install "compacter-core[{extra}]".',
        ) from error


_EXIT_CODES = "exit codes: 0 done, 1 a check failed, 2 bad input or usage, 3 internal error"


def _indented(lines: str) -> str:
    return "\n".join(f"  {line.strip()}" for line in lines.strip().splitlines())
