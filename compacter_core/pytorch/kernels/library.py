"""The C kernels as a shared library: made once per machine by its own C compiler, and kept among the user's caches.

The compiler is what the variable CC names, or else `cc`; COMPACTER_CPU_KERNELS=off leaves the kernels out. Nothing but
the compiler's one command is run, at the first use of an adapter on a CPU, which takes about a second. Where it fails,
the plain operations serve, and a warning is logged. The library calls OpenMP, whose threads it shares with PyTorch: the
name of the library that PyTorch has loaded is the one that compilers link.
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
from pathlib import Path
from typing import Final

import torch

from compacter_core.errors import CompacterError
from compacter_core.format.atomic import atomic_write

SWITCH: Final = "COMPACTER_CPU_KERNELS"
"""Variable of the environment that is `off` to leave the kernels out."""

_SOURCES: Final = tuple(Path(__file__).with_name(name) for name in ("cpu_kernels.c", "cpu_products.h", "cpu_vectors.h"))
_FLAGS: Final = ("-O3", "-fopenmp", "-shared", "-fPIC")
_CAPABILITIES: Final = {"AVX512": ("-mavx512f", "-mfma"), "AVX2": ("-mavx2", "-mfma")}
"""Flags by what PyTorch calls the vector instructions that it uses itself."""

_SECONDS: Final = 60
_LOGGER: Final = logging.getLogger(__name__)


def load() -> ctypes.CDLL | None:
    """The library, compiled if it has not been yet; None where it is switched off or cannot be."""
    if os.environ.get(SWITCH) == "off" or sys.platform == "win32":
        return None
    flags = (*_FLAGS, *_CAPABILITIES.get(torch.backends.cpu.get_cpu_capability(), ()))
    compiler = shlex.split(os.environ.get("CC", "cc"))
    try:
        path = _cache() / f"{_digest(compiler, flags)}.so"
        if not path.exists():
            atomic_write(path, _compiled(compiler, flags))
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError, CompacterError, subprocess.SubprocessError) as error:
        _LOGGER.warning(
            "adapters run on plain operations, which are slower, for no kernels could be compiled with %s: %s (%s=off "
            "leaves them out without a word)",
            shlex.join(compiler),
            error,
            SWITCH,
        )
        return None


def _cache() -> Path:
    """Where compiled kernels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compacter-core"


def _digest(compiler: list[str], flags: tuple[str, ...]) -> str:
    """Of all that the library is made from, and what for: homes may be shared by machines."""
    return hashlib.sha256(
        repr((platform.machine(), [path.read_text("utf-8") for path in _SOURCES], compiler, flags)).encode()
    ).hexdigest()


def _compiled(compiler: list[str], flags: tuple[str, ...]) -> bytes:
    """The library's bytes.

    Raises:
        OSError: there is no such compiler.
        RuntimeError: with its words, if it refuses.
        SubprocessError: it does not end.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "kernels.so")
        command = [*compiler, *flags, str(_SOURCES[0]), "-lm", "-o", str(made)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)  # noqa: S603  # the user's compiler
        if result.returncode:
            raise RuntimeError(result.stderr.strip() or f"{shlex.join(compiler)} ended with {result.returncode}")
        return made.read_bytes()
