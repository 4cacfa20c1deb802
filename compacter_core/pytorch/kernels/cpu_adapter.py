"""The adapter on CPUs: a pass that reads x and skip and writes y, and one that reads x and g and writes dx.

Everything else of an adapter happens in these passes: what stands beside hidden states and what mixes is made of the
tensors before, their gradients are summed up by thread, and the threads' sums added in their order, so that a run with
as many threads gives the same bits. Kept is u, where it is no wider than the bottleneck; all else is computed again.
For low_rank and lphm in float32. The arithmetic is in `cpu_kernels.c`.
"""

import ctypes
from typing import Any, Final

import torch
from torch import Tensor
from torch._utils import _unflatten_dense_tensors

from compacter_core.pytorch.factors import Factors
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


class _Sizes(ctypes.Structure):
    """`sizes` of the C file."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("rows", "n", "m", "r", "q", "activation", "threads")),
        ("scale", ctypes.c_double),
    )


class _Projection(ctypes.Structure):
    """`projection` of the C file."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("rule", "left", "right", "bias"))


class _Hidden(ctypes.Structure):
    """`hidden` of the C file."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("x", "skip", "g", "u", "y", "dx"))


class CpuKernels:
    """The kernels of a compiled library; see `Kernels`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        for name in ("scratch_forward", "scratch_backward"):
            getattr(library, name).restype = ctypes.c_long

    def supports(self, steps: Steps, x: Tensor) -> bool:
        """Whether all is float32, and u and z are no wider than x."""
        down = steps.tensors.down
        if down.right is None or x.dtype is not torch.float32 or down.left.dtype is not torch.float32:
            return False
        d, n, (r, q) = x.shape[-1], down.blocks, down.right.shape[-2:]
        return n * max(n * r, q) <= d <= MAX_SIZE and x.numel() > 0

    def forward(self, steps: Steps, x: Tensor, skip: Tensor | None) -> tuple[Tensor, Kept]:
        """Y and what is worth keeping."""
        x, skip, tensors = x.contiguous(), None if skip is None else skip.contiguous(), _contiguous(steps.tensors)
        sizes = _sizes(steps, x)
        y = torch.empty_like(x)
        u = x.new_empty(sizes.rows, sizes.n**2 * sizes.r) if sizes.n * sizes.r <= sizes.q else None
        scratch = x.new_empty(self._library.scratch_forward(ctypes.byref(sizes)))
        rows = _Hidden(x=_at(x), skip=_at(skip), u=_at(u), y=_at(y))
        self._library.forward(
            ctypes.byref(sizes), *_projections(tensors), ctypes.byref(rows), ctypes.c_void_p(_at(scratch))
        )
        return y, Kept(u, None, None, None)

    def backward(self, steps: Steps, kept: Kept, x: Tensor, g: Tensor, *, adds_g: bool) -> tuple[Tensor, SiteTensors]:
        """Gradients of x and of the tensors."""
        x, g, tensors = x.contiguous(), g.contiguous(), _contiguous(steps.tensors)
        sizes = _sizes(steps, x)
        dx, gradients = torch.empty_like(x), _zeros(tensors)
        scratch = x.new_empty(self._library.scratch_backward(ctypes.byref(sizes)))
        rows = _Hidden(x=_at(x), skip=_at(g if adds_g else None), g=_at(g), u=_at(kept.u), dx=_at(dx))
        given = (*_projections(tensors), ctypes.byref(rows), ctypes.c_void_p(_at(scratch)), *_projections(gradients))
        self._library.backward(ctypes.byref(sizes), *given)
        return dx, gradients


def _sizes(steps: Steps, x: Tensor) -> _Sizes:
    down, options = steps.tensors.down, steps.options
    rows, n, (r, q) = x.numel() // x.shape[-1], down.blocks, _right(down).shape[-2:]
    threads = max(1, min(torch.get_num_threads(), x.numel() // _NUMBERS_PER_THREAD))
    return _Sizes(rows, n, x.shape[-1] // n, r, q, ACTIVATIONS.index(options.activation), threads, options.scale)


def _right(factors: Factors) -> Tensor:
    if factors.right is None:
        raise TypeError("kernels take what has a rank")
    return factors.right


def _contiguous(tensors: SiteTensors) -> SiteTensors:
    return SiteTensors.of(tuple(None if tensor is None else tensor.contiguous() for tensor in tensors.flat()))


def _zeros(tensors: SiteTensors) -> SiteTensors:
    """In one piece of memory; a rule that both projections share has one gradient."""
    flat = tensors.flat()
    there = [tensor for tensor in flat if tensor is not None]
    memory = there[0].new_zeros(sum(tensor.numel() for tensor in there))
    pieces = iter(_unflatten_dense_tensors(memory, there))  # type: ignore[no-untyped-call]  # PyTorch's annotations lack it
    return SiteTensors.of(tuple(None if tensor is None else next(pieces) for tensor in flat))


def _projections(tensors: SiteTensors) -> tuple[Any, ...]:
    """Pointers to both."""
    return tuple(
        ctypes.byref(_Projection(*map(_at, (*factors, bias))))
        for factors, bias in ((tensors.down, tensors.down_bias), (tensors.up, tensors.up_bias))
    )


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
