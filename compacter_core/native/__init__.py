"""C files as shared libraries: made once per machine by its own C compiler, and kept among the user's caches.

The compiler is what the variable CC names, or else `cc`; COMPACTER_CPU_KERNELS=off leaves all kernels out. Nothing but
the compiler is run, at the first use of a kernel, which takes about a second. Where it fails, what the kernels stand in
for serves, and a warning is logged. `vectors.h` beside this file is for all of them.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from compacter_core.errors import CompacterError
from compacter_core.format.atomic import atomic_write

SWITCH: Final = "COMPACTER_CPU_KERNELS"
"""Variable of the environment that is `off` to leave the kernels out."""

_HEADERS: Final = Path(__file__).parent
_SECONDS: Final = 60
_LOGGER: Final = logging.getLogger(__name__)


def library(source: Path, flags: Sequence[str]) -> Path | None:
    """The library of a C file, compiled if it has not been yet; None where it is switched off or cannot be.

    It is loaded, and stays so for as long as the process lives.

    Args:
        source: the file; it may include headers of its folder and of this one.
        flags: of the compiler. With `-march=native` or the like, libraries are kept by what that means on a machine.
    """
    if os.environ.get(SWITCH) == "off" or sys.platform == "win32":
        return None
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, *flags, f"-I{_HEADERS}"]
    try:
        path = _cache() / f"{_digest(source, compiler, flags)}.so"
        if not path.exists():
            atomic_write(path, _compiled(source, command))
        ctypes.CDLL(str(path))
    except (OSError, RuntimeError, CompacterError, subprocess.SubprocessError) as error:
        _LOGGER.warning(
            "adapters run on plain operations, which are slower, for no kernels could be compiled with %s: %s (%s=off "
            "leaves them out without a word)",
            shlex.join(compiler),
            error,
            SWITCH,
        )
        return None
    return path


def _cache() -> Path:
    """Where compiled kernels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compacter-core"


def _digest(source: Path, compiler: list[str], flags: Sequence[str]) -> str:
    """Of all that the library is made from, and what for: homes may be shared by machines.

    Raises:
        OSError: there is no such compiler.
        RuntimeError: with its words, if it refuses.
        SubprocessError: it does not end.
    """
    files = [source, *(header for folder in (source.parent, _HEADERS) for header in sorted(folder.glob("*.h")))]
    is_native = any(flag.endswith("=native") for flag in flags)
    macros = _run([*compiler, *flags, "-dM", "-E", "-x", "c", os.devnull]) if is_native else ""
    texts = [path.read_text("utf-8") for path in files]
    return hashlib.sha256(repr((platform.machine(), texts, compiler, tuple(flags), macros)).encode()).hexdigest()


def _compiled(source: Path, command: list[str]) -> bytes:
    """The library's bytes.

    Raises:
        OSError: there is no such compiler.
        RuntimeError: with its words, if it refuses.
        SubprocessError: it does not end.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "kernels.so")
        _run([*command, str(source), "-lm", "-o", str(made)])
        return made.read_bytes()


def _run(command: list[str]) -> str:
    """What the compiler prints.

    Raises:
        OSError: there is no such compiler.
        RuntimeError: with its words, if it refuses.
        SubprocessError: it does not end.
    """
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)  # noqa: S603  # the user's compiler
    if result.returncode:
        raise RuntimeError(result.stderr.strip() or f"{shlex.join(command)} ended with {result.returncode}")
    return result.stdout
