"""Live progress of a run on standard error: a bar where tqdm is installed, else a line that counts."""

import sys
import time
from types import TracebackType
from typing import Any, Final, Self, TextIO

_QUIET_SECONDS: Final = 2.0
"""A run that is over by then needs no progress where nobody watches."""
_LINE_SECONDS: Final = 10.0
_REDRAW_SECONDS: Final = 0.1


class Progress:
    """Counts cases; a context manager.

    Args:
        total: number of cases.
        stream: where it is shown; None shows nothing.
    """

    def __init__(self, total: int, stream: TextIO | None) -> None:
        self._total = total
        self._stream = stream
        self._is_terminal = stream is not None and stream.isatty()
        self._done = self._bad = 0
        self._next_show = time.monotonic() + (0.0 if self._is_terminal else _QUIET_SECONDS)
        self._bar = _bar(total, stream) if self._is_terminal else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._is_terminal and self._stream is not None:
            print(file=self._stream)

    def step(self, case: str, *, is_good: bool) -> None:
        """One more case is done."""
        self._done += 1
        self._bad += not is_good
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._bad} not passed", refresh=False)
            self._bar.update()
        elif self._stream is not None and time.monotonic() >= self._next_show:
            self._show(self._stream, case)

    def _show(self, stream: TextIO, case: str) -> None:
        text = f"{self._done}/{self._total} cases, {self._bad} not passed"
        if self._is_terminal:
            print(f"\r\x1b[K{text}, {case}", end="", file=stream, flush=True)
        else:
            print(text, file=stream, flush=True)
        self._next_show = time.monotonic() + (_REDRAW_SECONDS if self._is_terminal else _LINE_SECONDS)


def _bar(total: int, stream: TextIO | None) -> Any:
    try:
        from tqdm import tqdm  # noqa: PLC0415  # an optional dependency
    except ModuleNotFoundError:
        return None
    return tqdm(total=total, unit="case", file=stream, dynamic_ncols=True)


def standard_error() -> TextIO:
    """Where progress goes."""
    return sys.stderr
