"""The C kernels as a shared library, compiled at the first use of an adapter on a CPU.

It calls OpenMP, whose threads it shares with PyTorch: the name of the library that PyTorch has loaded is the one that
compilers link.
"""

import ctypes
from pathlib import Path
from typing import Final

import torch

from compacter_core import native

_SOURCE: Final = Path(__file__).with_name("cpu_kernels.c")
_FLAGS: Final = ("-O3", "-fopenmp", "-shared", "-fPIC")
_CAPABILITIES: Final = {"AVX512": ("-mavx512f", "-mfma"), "AVX2": ("-mavx2", "-mfma")}
"""Flags by what PyTorch calls the vector instructions that it uses itself."""


def load() -> ctypes.CDLL | None:
    """The library, compiled if it has not been yet; None where it is switched off or cannot be."""
    flags = (*_FLAGS, *_CAPABILITIES.get(torch.backends.cpu.get_cpu_capability(), ()))
    path = native.library(_SOURCE, flags)
    return None if path is None else ctypes.CDLL(str(path))
