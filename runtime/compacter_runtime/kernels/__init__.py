"""C kernels for the functions of grafted models, as operators of ONNX Runtime.

ONNX Runtime takes a registered operator in the place of the model's own function of that name; without, it runs what
the function consists of, which is slower. The C is compiled at the first use, as `compacter_core.native` describes,
and needs ONNX Runtime 1.24.
"""

import logging
import platform
from collections.abc import Sequence
from functools import cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

import onnxruntime

from compacter_core import native

_SOURCE: Final = Path(__file__).with_name("operators.c")
_FLAGS: Final = ("-O3", "-pthread", "-shared", "-fPIC")
_NATIVE: Final = {
    **dict.fromkeys(("x86_64", "amd64", "i686"), ("-march=native",)),
    **dict.fromkeys(("aarch64", "arm64"), ("-mcpu=native",)),
}
"""Flags for all vector instructions of the machine, by its kind."""

_DOMAIN: Final = b"\x0cai.compacter"
"""Of the functions, as files have it: behind its length."""

_LOGGER: Final = logging.getLogger(__name__)


@cache
def library() -> Path | None:
    """The library of operators, compiled if it has not been yet; None where it is switched off or cannot be used.

    What is found at the first call holds for the process.
    """
    path = native.library(_SOURCE, (*_FLAGS, *_NATIVE.get(platform.machine().lower(), ())))
    if path is None:
        return None
    try:
        onnxruntime.SessionOptions().register_custom_ops_library(str(path))
    # ONNX Runtime's exceptions share no base class but Exception.
    except Exception as error:
        _LOGGER.warning(
            "adapters run on plain operations, which are slower, for ONNX Runtime refused kernels: %s (%s=off "
            "leaves them out without a word)",
            error,
            native.SWITCH,
        )
        return None
    return path


def register(options: onnxruntime.SessionOptions) -> bool:
    """Have the adapters of a session on CPUs computed by kernels, where the model calls functions for them.

    `Session` and `Generator` do so themselves. Of use with `graft --form sublayer` and `function`; other graphs do not
    change.

        options = onnxruntime.SessionOptions()
        compacter_runtime.kernels.register(options)
        session = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])

    Returns:
        Whether there are kernels. Where not, the session runs the functions' own operations; a warning is logged if
        that is not because kernels are switched off.
    """
    path = library()
    if path is None:
        return False
    options.register_custom_ops_library(str(path))
    return True


def register_for(model: Path, options: onnxruntime.SessionOptions, providers: Sequence[str]) -> None:
    """`register`, where a model calls adapters and runs on CPUs.

    Args:
        model: its `.onnx` file, which exists.
        options: of the session.
        providers: ONNX Runtime's names of them, in order of preference.

    Raises:
        OSError: the file cannot be read.
    """
    if providers[:1] == ["CPUExecutionProvider"] and calls_adapters(model):
        register(options)


def calls_adapters(model: Path) -> bool:
    """Whether a model calls functions that there are kernels for.

    Args:
        model: its `.onnx` file, which exists.

    Raises:
        OSError: it cannot be read.
    """
    # An empty file cannot be mapped.
    if not model.stat().st_size:
        return False
    with model.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return content.find(_DOMAIN) >= 0
