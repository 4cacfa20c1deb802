"""The bytes of a file, read once from front to back: how many there have to be, and the digest of those read."""

import hashlib
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path

from compacter_core.errors import CompacterError, ErrorCode

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class Source:
    """A seekable stream of a known size.

    A file that has fewer or more bytes by the time they are read is refused, so nobody can change it half way.

    Args:
        stream: at its beginning.
        size: its length in bytes.
    """

    def __init__(self, stream: BufferedReader | BytesIO, size: int) -> None:
        self.size = size
        self._stream = stream
        self._sha256 = hashlib.sha256()

    def peek(self, count: int) -> bytes:
        """The first bytes, at most `count`; they stay to be read."""
        start = self._stream.read(count)
        self._stream.seek(0)
        return start

    def read(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            CompacterError: E101 if there are fewer.
        """
        data = self._stream.read(count)
        self._require(len(data), count)
        self._sha256.update(data)
        return data

    def fill(self, part: memoryview) -> None:
        """Fill memory with the next bytes.

        Raises:
            CompacterError: E101 if there are fewer.
        """
        self._require(self._stream.readinto(part), part.nbytes)
        self._sha256.update(part)

    def finish(self) -> str:
        """The SHA-256 of all bytes in hexadecimal, once all have been read.

        Raises:
            CompacterError: E105 if there are more.
        """
        if self._stream.read(1):
            raise CompacterError(
                ErrorCode.E105, "the file grew while it was read", value="more bytes", expected=f"{self.size} bytes"
            )
        return self._sha256.hexdigest()

    def _require(self, got: int, wanted: int) -> None:
        if got < wanted:
            raise CompacterError(
                ErrorCode.E101,
                "the file became shorter while it was read",
                value=f"{got} bytes",
                expected=f"{wanted} bytes",
            )


@contextmanager
def open_source(file: Path) -> Generator[Source]:
    """Open a regular file, or a link to one, as the caches of hubs are made of links.

    A pipe or a device has no size and may never end, so it is refused; opening one does not block either.

    Raises:
        CompacterError: E005, also for an error while the block reads.
    """
    try:
        with _open(file) as stream:
            yield Source(stream, os.fstat(stream.fileno()).st_size)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from error


def _open(file: Path) -> BufferedReader:
    try:
        mode = file.stat().st_mode  # before it is opened, since opening a device may do something
    except ValueError as error:
        raise _unreadable(file, str(error)) from error
    _require_regular(file, mode)
    stream = os.fdopen(os.open(file, _FLAGS), "rb")
    _require_regular(file, os.fstat(stream.fileno()).st_mode)  # another file may have taken its place
    return stream


def _require_regular(file: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise _unreadable(file, "not a regular file")


def _unreadable(file: Path, reason: str) -> CompacterError:
    return CompacterError(ErrorCode.E005, f"cannot read: {reason}", value=str(file))
