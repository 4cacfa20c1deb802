"""Kernels that take an adapter through few passes over hidden states, where a device has some.

Triton's on CUDA, C ones on CPUs with a C compiler. Everywhere else, and for all that they do not support, `fused` runs
the plain operations, which are also what kernels are compared with, beside the reference.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from compacter_core.pytorch.site_steps import Kept, Steps
from compacter_core.pytorch.site_tensors import SiteTensors


class Kernels(Protocol):
    """Functions of a module or of a library; called without autocast, and no derivative is taken through them."""

    def supports(self, steps: Steps, x: Tensor) -> bool:
        """Whether they take these types and sizes, of a site without a trained scaling."""

    def forward(self, steps: Steps, x: Tensor, skip: Tensor | None) -> tuple[Tensor, Kept]:
        """Y = skip + scale (act(x Wd + bd) Wu + bu), of the type and shape of x, and what is worth keeping."""

    def backward(self, steps: Steps, kept: Kept, x: Tensor, g: Tensor, *, adds_g: bool) -> tuple[Tensor, SiteTensors]:
        """Gradients of x, with g added where skip is x, and of the tensors, given that of y.

        Those of a rule that both projections share are summed already where they are one tensor.
        """


def kernels_for(x: Tensor) -> Kernels | None:
    """Those for the device of x; None where there are none, and while x is traced or stands for another tensor."""
    is_traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]  # PyTorch's annotations lack it
    if is_traced or torch.compiler.is_compiling() or type(x) not in {Tensor, nn.Parameter}:
        return None
    match x.device.type:
        case "cuda":
            return _triton()
        case "cpu":
            return _cpu()
    return None


@cache
def _triton() -> Kernels | None:
    found = find_spec("triton") is not None
    return cast(Any, import_module("compacter_core.pytorch.kernels.triton_adapter")) if found else None


@cache
def _cpu() -> Kernels | None:
    library = import_module("compacter_core.pytorch.kernels.library").load()
    return None if library is None else import_module("compacter_core.pytorch.kernels.cpu_adapter").CpuKernels(library)
