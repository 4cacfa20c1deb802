"""Writes that either happen completely or leave no trace: temporary name, fsync, rename.

A reader never sees a half-written file, and a failed write leaves the former content in place.
"""

import os
import secrets
import shutil
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from compacter_core.errors import CompacterError, ErrorCode


def atomic_write(path: Path | str, data: bytes) -> None:
    """Replace the file `path` by `data`, creating missing parent directories.

    Raises:
        CompacterError: E006 if it cannot be written; the former content then still stands.
    """
    atomic_write_all({Path(path): data})


def atomic_write_all(contents: Mapping[Path, bytes]) -> None:
    """Replace several files: all of them are written and synced before the first one is renamed.

    A full disk or a missing permission therefore changes none of them.

    Raises:
        CompacterError: E006.
    """
    with ExitStack() as stack:
        files = [(stack.enter_context(atomic_file(path)), data) for path, data in contents.items()]
        for (stream, data), path in zip(files, contents, strict=True):
            with _as_e006(path):
                stream.write(data)
                _sync(stream)


@contextmanager
def atomic_file(path: Path | str) -> Generator[BinaryIO]:
    """Open a temporary file beside `path`; it becomes `path` when the block ends without an exception.

    Raises:
        CompacterError: E006.
    """
    target = Path(path)
    with _as_e006(target):
        if target.is_dir():
            raise IsADirectoryError("is a directory")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(target)
        stream = temporary.open("xb")
    try:
        with stream:
            yield stream
            with _as_e006(target):
                _sync(stream)
        with _as_e006(target):
            temporary.replace(target)
            _sync_directory(target.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_directory(path: Path | str) -> Generator[Path]:
    """Make a temporary directory beside `path`; it becomes `path` when the block ends without an exception.

    An existing empty directory is replaced; one that holds anything is refused before any work is done, since
    replacing it would delete files this code does not know.

    Raises:
        CompacterError: E006.
    """
    target = Path(path)
    with _as_e006(target):
        _refuse_occupied(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(target)
        temporary.mkdir()
    try:
        yield temporary
        with _as_e006(target):
            for folder, _, names in os.walk(temporary):
                for name in names:
                    with (Path(folder) / name).open("rb") as stream:
                        os.fsync(stream.fileno())
                _sync_directory(Path(folder))
            temporary.replace(target)  # fails if the target has been filled meanwhile
            _sync_directory(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _temporary_name(target: Path) -> Path:
    """A fresh hidden name in the same directory, hence on the same file system, so that rename is atomic."""
    return target.absolute().parent / f".{secrets.token_hex(8)}.tmp"


def _refuse_occupied(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise CompacterError(
            ErrorCode.E006, "the output directory's name is taken by something else", value=str(target)
        )
    if target.is_dir() and any(target.iterdir()):
        raise CompacterError(
            ErrorCode.E006,
            "the output directory is not empty",
            value=str(target),
            expected="a new or an empty directory",
            remedy="Choose another directory, or remove this one.",
        )


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_directory(directory: Path) -> None:
    """Make a rename durable. Some platforms cannot open directories; the rename is atomic there all the same."""
    with suppress(PermissionError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _as_e006(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise CompacterError(
            ErrorCode.E006,
            f"cannot write: {error.strerror or error}",
            value=str(path),
            remedy="Check the path, its permissions and the free space.",
        ) from error
