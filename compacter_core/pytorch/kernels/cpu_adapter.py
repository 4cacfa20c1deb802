"""The adapter on CPUs: a pass that reads x and skip and writes y, and one that reads x and g and writes dx.

Everything else of an adapter happens in these passes: what stands beside hidden states and what mixes is made of the
tensors before, their gradients are summed up by thread, and the threads' sums added in their order, so that a run with
as many threads gives the same bits. Kept is u, where it is no wider than the bottleneck; all else is computed again.
For low_rank and lphm in float32. The arithmetic is in `cpu_kernels.c`.
"""

import ctypes
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch._utils import _unflatten_dense_tensors

from compacter_core.pytorch.site_steps import Kept, Steps
from compacter_core.pytorch.site_tensors import SiteTensors
from compacter_core.vocabulary import Activation

ACTIVATIONS: Final = (
    Activation.GELU_NEW,
    Activation.GELU,
    Activation.RELU,
    Activation.SILU,
    Activation.TANH,
    Activation.IDENTITY,
)
"""In the order of the C file."""

MAX_SIZE: Final = 2**14
"""Of x, which u and z are no wider than: a thread keeps a few rows of them on its stack."""

_NUMBERS_PER_THREAD: Final = 2**14
"""Of x; a further thread would take longer to start than to handle fewer."""


_LONGS: Final = ("rows", "n", "m", "r", "q", "activation", "threads")
_HIDDEN: Final = ("x", "skip", "g", "u", "y", "dx")
_TENSORS: Final = ("rule", "left", "right", "bias")
_PROJECTIONS: Final = ("down", "up", "d_down", "d_up")


class _Call(ctypes.Structure):
    """`call` of the C file."""

    _fields_ = (
        *((name, ctypes.c_long) for name in _LONGS),
        ("scale", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in _HIDDEN),
        *((f"{projection}_{name}", ctypes.c_void_p) for projection in _PROJECTIONS for name in _TENSORS),
    )


class CpuKernels:
    """The kernels of a compiled library; see `Kernels`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def supports(self, steps: Steps, x: Tensor) -> bool:
        """Whether all is float32, and u and z are no wider than x."""
        down = steps.tensors.down
        if down.right is None or x.dtype is not torch.float32 or down.left.dtype is not torch.float32:
            return False
        d, n, (r, q) = x.shape[-1], down.blocks, down.right.shape[-2:]
        return n * max(n * r, q) <= d <= MAX_SIZE and x.numel() > 0

    def forward(self, steps: Steps, x: Tensor, skip: Tensor | None) -> tuple[Tensor, Kept]:
        """Y and what is worth keeping."""
        rows, n, _, r, q, *_ = sizes = _sizes(steps, x)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        u = x.new_empty(rows, n * n * r) if n * r <= q else None
        _run(self._library.forward, sizes, (x, skip, None, u, y, None, *_in_order(steps.tensors)))
        return y, Kept(u, None, None, None)

    def backward(self, steps: Steps, kept: Kept, x: Tensor, g: Tensor, *, adds_g: bool) -> tuple[Tensor, SiteTensors]:
        """Gradients of x and of the tensors."""
        dx = torch.empty_like(x, memory_format=torch.contiguous_format)
        gradients = _zeros(steps.tensors)
        hidden = (x, g if adds_g else None, g, kept.u, None, dx)
        tensors = (*hidden, *_in_order(steps.tensors), *_in_order(gradients))
        _run(self._library.backward, _sizes(steps, x), tensors)
        return dx, gradients


def _run(kernel: Callable[..., int], sizes: tuple[float, ...], tensors: tuple[Tensor | None, ...]) -> None:
    """Calls a kernel, on contiguous copies of what is read and is not contiguous."""
    given = [None if tensor is None else tensor.contiguous() for tensor in tensors]
    call = _Call(*sizes, *(None if tensor is None else tensor.data_ptr() for tensor in given))
    if not kernel(ctypes.byref(call)):
        raise MemoryError("no memory for the kernels of an adapter")


def _sizes(steps: Steps, x: Tensor) -> tuple[int, int, int, int, int, int, int, float]:
    """The first fields of a call."""
    (down, *_), options = steps
    n, d, numbers = down.blocks, x.shape[-1], x.numel()
    r, q = (0, 0) if down.right is None else down.right.shape[-2:]
    threads = max(1, min(torch.get_num_threads(), numbers // _NUMBERS_PER_THREAD))
    return numbers // d, n, d // n, r, q, ACTIVATIONS.index(options.activation), threads, options.scale


def _in_order(tensors: SiteTensors) -> tuple[Tensor | None, ...]:
    """The last fields of a call."""
    return (*tensors.down, tensors.down_bias, *tensors.up, tensors.up_bias)


def _zeros(tensors: SiteTensors) -> SiteTensors:
    """In one piece of memory; a rule that both projections share has one gradient."""
    flat = tensors.flat()
    there = [tensor for tensor in flat if tensor is not None]
    memory = there[0].new_zeros(sum(tensor.numel() for tensor in there))
    pieces = iter(_unflatten_dense_tensors(memory, there))  # type: ignore[no-untyped-call]  # PyTorch's annotations lack it
    return SiteTensors.of(tuple(None if tensor is None else next(pieces) for tensor in flat))
