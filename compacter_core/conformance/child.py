"""An implementation behind a pipe: any program in any language that speaks the protocol (CNF-14 to CNF-16)."""

import shlex
import time
from pathlib import Path
from typing import Final

from compacter_core.config import SPEC_VERSION
from compacter_core.conformance.implementation import Answer, Capabilities, Done, Failed, Request
from compacter_core.conformance.memory import MemoryWatch, is_measured
from compacter_core.conformance.process import NoAnswerError, Process, TooLateError
from compacter_core.conformance.protocol import (
    PROTOCOL,
    answer_from_json,
    capabilities_from_json,
    decode_line,
    encode_line,
    request_to_json,
)
from compacter_core.conformance.subject import Asked, Ceiling
from compacter_core.errors import CompacterError, ErrorCode

START_SECONDS: Final = 60.0
"""Usual ceiling of the handshake: large libraries are imported in it."""
_STOP_SECONDS: Final = 5.0
_MIB: Final = 2**20


class Child:
    """A child process; it is started by `describe`, and again after a crash.

    Args:
        command: a command line, split as a POSIX shell does, but run without one.
        scratch: folder of the files of all requests.
        start_seconds: that the handshake may take.

    Raises:
        CompacterError: E001 if the command line cannot be split.
    """

    def __init__(self, command: str, scratch: Path, *, start_seconds: float = START_SECONDS) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise CompacterError(ErrorCode.E001, f"command: {error}", value=command) from error
        if not self._command:
            raise CompacterError(ErrorCode.E001, "command is empty", value=command, expected="a program")
        self._scratch = scratch
        self._start_seconds = start_seconds
        self._process: Process | None = None
        self._watch: MemoryWatch | None = None
        self._seq = 0
        self._lost: str | None = None

    @property
    def has_memory_ceiling(self) -> bool:
        """Whether memory is measured, which needs Linux."""
        return is_measured()

    def describe(self) -> Capabilities:
        """Start the child and shake hands.

        Raises:
            CompacterError: E001 if it does not start or does not speak the protocol.
        """
        self.close()
        self._process, self._seq = Process(self._command), 0
        start = {"cmd": "start", "protocol": PROTOCOL, "spec": SPEC_VERSION, "scratch": str(self._scratch)}
        try:
            answer = self._exchange(self._process, start, Ceiling(self._start_seconds, 0))
            if not isinstance(answer, Done):
                raise CompacterError(ErrorCode.E801, "start was not answered with ok", value=answer)
            capabilities = capabilities_from_json(answer.value)
        except (NoAnswerError, CompacterError) as error:
            said = _said(self._process)
            self._end()
            raise CompacterError(
                ErrorCode.E001,
                f"the command does not speak the conformance protocol: {_cause(error)}{said}",
                value=shlex.join(self._command),
                remedy=f"{_hint(error)}See specs/conformance.md, [CNF-14], for the messages.",
            ) from error
        if is_measured():
            self._watch = MemoryWatch(self._process.pid)
        return capabilities

    def ask(self, request: Request, ceiling: Ceiling) -> Asked:
        """Ask; if there is no answer, the child is ended, and started again for the next question (CNF-16)."""
        process = self._running()
        if process is None:
            return Asked(Failed(f"not run: {self._lost}"), 0.0, None)
        process.forget_errors()
        if self._watch is not None:
            self._watch.begin()
        began = time.perf_counter()
        try:
            answer = self._exchange(process, {"cmd": "run", **request_to_json(request)}, ceiling)
            self._check_memory(ceiling)
        except (NoAnswerError, CompacterError) as error:
            answer = Failed(f"{_cause(error)}{_said(process)}")
            seconds, peak = time.perf_counter() - began, self._peak()
            self._end()
            return Asked(answer, seconds, peak)
        return Asked(answer, time.perf_counter() - began, self._peak())

    def close(self) -> None:
        """Ask the child to stop, and end it if it does not."""
        if self._process is not None:
            self._seq += 1
            self._process.send(encode_line({"seq": self._seq, "cmd": "stop"}))
            self._process.close(_STOP_SECONDS)
            self._process = self._watch = None

    def _running(self) -> Process | None:
        """The child, started again if need be; None once that has failed."""
        if self._process is None and self._lost is None:
            try:
                self.describe()
            except CompacterError as error:
                self._lost = f"the implementation could not be started again ({error.message})"
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = self._watch = None

    def _exchange(self, process: Process, message: dict[str, object], ceiling: Ceiling) -> Answer:
        seq, self._seq = self._seq, self._seq + 1
        process.send(encode_line({"seq": seq, **message}))

        def look() -> None:
            if self._watch is not None:
                self._check_memory(ceiling)

        return answer_from_json(decode_line(process.receive(ceiling.seconds, look)), seq)

    def _check_memory(self, ceiling: Ceiling) -> None:
        peak = self._peak()
        if peak is not None and peak > ceiling.memory:
            raise NoAnswerError(f"took {peak / _MIB:.0f} MiB of memory, more than {ceiling.memory / _MIB:.0f} MiB")

    def _peak(self) -> int | None:
        return None if self._watch is None else self._watch.peak()


def _cause(error: NoAnswerError | CompacterError) -> str:
    """What went wrong, without a code: the codes of the runner are none of the implementation's."""
    return str(error).removeprefix(f"{error.code.name}: ") if isinstance(error, CompacterError) else str(error)


def _hint(error: NoAnswerError | CompacterError) -> str:
    if not isinstance(error, TooLateError):
        return ""
    return (
        "If the program answers on a terminal, it has to flush standard output after every line, which is buffered in "
        "a pipe; if it needs longer to start, add --start-timeout. "
    )


def _said(process: Process) -> str:
    said = " | ".join(process.last_errors())
    return f"; the end of standard error: {said}" if said else ""
