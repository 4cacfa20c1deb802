"""A child process that is read line by line and cannot block its parent: not by silence, floods, or full pipes."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Final

from compacter_core.conformance.protocol import MAX_LINE
from compacter_core.errors import CompacterError, ErrorCode

_TICK: Final = 0.05
"""Seconds between two looks at a child that has not answered."""
_WAITING_LINES: Final = 8
_STDERR_BYTES: Final = 4096
_STDERR_LINES: Final = 8


class NoAnswerError(Exception):
    """There is no answer: the child has ended, is late, wrote too long a line, or took too much. The message says."""


class TooLateError(NoAnswerError):
    """The time is over, and the child is silent."""


class Process:
    """A running child in a process group of its own.

    Args:
        command: program and arguments.

    Raises:
        CompacterError: E001 if it cannot be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        try:
            self._popen = subprocess.Popen(  # noqa: S603  # the user's own command
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise CompacterError(
                ErrorCode.E001, f"the command cannot be started: {error}", value=" ".join(command)
            ) from error
        self._lines: queue.Queue[bytes | None] = queue.Queue(_WAITING_LINES)
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._errors = b""
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=work, args=(stream,), daemon=True)
            for work, stream in (
                (self._read_lines, self._popen.stdout),
                (self._read_errors, self._popen.stderr),
                (self._write_lines, self._popen.stdin),
            )
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Process id, and id of the process group."""
        return self._popen.pid

    def send(self, line: bytes) -> None:
        """Send a line; it never blocks, and a child that has ended is found out by `receive`."""
        self._outgoing.put(line)

    def receive(self, seconds: float, tick: Callable[[], None]) -> bytes:
        """The next line; `tick` is called every now and then while there is none.

        Raises:
            TooLateError: after that many seconds.
            NoAnswerError: at the end of the output, or for a line longer than `MAX_LINE`.
        """
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=min(_TICK, remaining))
            except queue.Empty:
                tick()
                continue
            if line is None:
                raise NoAnswerError(self._exit())
            if len(line) > MAX_LINE:
                raise NoAnswerError(f"a line of more than {MAX_LINE} bytes")
            return line
        raise TooLateError(f"no answer within {seconds:g} s")

    def last_errors(self) -> list[str]:
        """The last lines of standard error."""
        if self._popen.poll() is not None:
            self._threads[1].join(1.0)  # what it said last may still be on its way
        return self._errors.decode(errors="replace").strip().splitlines()[-_STDERR_LINES:]

    def forget_errors(self) -> None:
        """Drop what was on standard error so far."""
        self._errors = b""

    def close(self, patience: float = 0.0) -> None:
        """End the child, and every process that it started, after `patience` seconds at the latest."""
        self._outgoing.put(None)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(patience)
        self._closed.set()
        if sys.platform == "win32":
            self._popen.kill()
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        for thread in self._threads:
            thread.join(1.0)

    def _exit(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            code = self._popen.wait(1.0)
            return f"the process {'was ended by signal' if code < 0 else 'ended with exit code'} {abs(code)}"
        return "the process closed its standard output"

    def _read_lines(self, stream: IO[bytes]) -> None:
        with stream, suppress(OSError, ValueError):
            while line := stream.readline(MAX_LINE + 1):
                if not self._put(line):
                    return
        self._put(None)

    def _put(self, line: bytes | None) -> bool:
        """Hand a line over; waits while nobody wants it, so that a flood of lines stays in the child."""
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._lines.put(line, timeout=_TICK)
                return True
        return False

    def _read_errors(self, stream: IO[bytes]) -> None:
        with stream, suppress(OSError, ValueError):
            while chunk := stream.read1(_STDERR_BYTES):  # type: ignore[attr-defined]  # a buffered reader
                self._errors = (self._errors + chunk)[-_STDERR_BYTES:]

    def _write_lines(self, stream: IO[bytes]) -> None:
        with suppress(OSError, ValueError), stream:
            while (line := self._outgoing.get()) is not None:
                stream.write(line)
                stream.flush()
