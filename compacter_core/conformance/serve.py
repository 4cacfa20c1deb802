"""The other end of the pipe: serve an implementation in Python to any runner (CNF-14).

python -m compacter_core.conformance.serve module:factory
"""

import os
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

from compacter_core.conformance.implementation import Answer, Failed, Implementation
from compacter_core.conformance.protocol import (
    PROTOCOL,
    answer_to_json,
    capabilities_to_json,
    decode_line,
    encode_line,
    request_from_json,
)
from compacter_core.conformance.resolve import resolve
from compacter_core.errors import CompacterError, ErrorCode


def serve(implementation: Implementation, stdin: BinaryIO | None = None, stdout: BinaryIO | None = None) -> None:
    """Answer requests until `stop` or the end of the input.

    Args:
        implementation: does the work. An exception of its `run` becomes the answer `error`.
        stdin: requests; standard input by default.
        stdout: answers. By default standard output, by `protected_stdout`.

    Raises:
        CompacterError: E801 for a line that is no message of this protocol.
    """
    requests = sys.stdin.buffer if stdin is None else stdin
    answers = protected_stdout() if stdout is None else stdout
    scratch = Path()
    for line in requests:
        message = decode_line(line)
        content: dict[str, object]
        match message.get("cmd"):
            case "start":
                scratch = _start(message)
                content = {"ok": capabilities_to_json(implementation.describe())}
            case "run":
                content = answer_to_json(_answer(implementation, message, scratch))
            case "stop":
                content = {"ok": {}}
            case other:
                raise CompacterError(ErrorCode.E801, "unknown command", value=other, expected="start, run or stop")
        answers.write(encode_line({"seq": message.get("seq"), **content}))
        answers.flush()
        if message["cmd"] == "stop":
            return


def main(argv: list[str]) -> int:
    """Serve the implementation that the only argument names; returns the exit code."""
    if len(argv) != 1 or argv[0].startswith("-"):
        print("usage: python -m compacter_core.conformance.serve NAME|module:factory", file=sys.stderr)
        return 0 if argv in (["-h"], ["--help"]) else 2
    answers = protected_stdout()  # before the import, which may print too
    try:
        serve(resolve(argv[0]), stdout=answers)
    except CompacterError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _start(message: dict[str, Any]) -> Path:
    if message.get("protocol") != PROTOCOL:
        raise CompacterError(ErrorCode.E801, "protocol", value=message.get("protocol"), expected=str(PROTOCOL))
    return Path(message["scratch"])


def _answer(implementation: Implementation, message: dict[str, Any], scratch: Path) -> Answer:
    try:
        return implementation.run(request_from_json(message, scratch))
    except Exception as error:  # a broken implementation is a finding, not an end of the run
        traceback.print_exception(error)
        return Failed(f"{type(error).__name__}: {error}")


def protected_stdout() -> BinaryIO:
    """Standard output for answers alone: what anything else prints, a C library included, goes to standard error."""
    sys.stdout.flush()
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return own


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
