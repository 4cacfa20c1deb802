"""The adapter on CUDA in one kernel each way: x is read and y written once; g is read and dx written once.

A program takes a block of rows through the whole adapter: u = X P^T block by block, z, act(z), then v Q and the sum
with skip, with everything between x and y in registers (see `fused` for the symbols). Where skip is x, its second read
comes from the cache. Sums, and all that is narrow, are float32 whatever the type of x. The backward kernel takes g
through the same steps in reverse and leaves dv and dz, from which the gradients of the tensors are small products.

For low_rank and lphm, whose narrow sides fit in registers, and every activation but tanh. All else, and every machine
without Triton or CUDA, takes the plain operations of `fused`, which are also what the kernels are tested against.
Tested in Triton's interpreter only (TRITON_INTERPRET=1): it has never run on a GPU.
"""

from typing import Any, Final, NamedTuple

import torch
import triton
from torch import Tensor

from compacter_core.pytorch.triton_kernels import backward_kernel, forward_kernel
from compacter_core.vocabulary import Activation

ACTIVATIONS: Final = (Activation.GELU_NEW, Activation.GELU, Activation.RELU, Activation.SILU, Activation.IDENTITY)
TYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
MAX_WIDTH: Final = 64
MAX_BOTTLENECK: Final = 256

_ROWS: Final = 16
_CHUNK: Final = 64
_SMALLEST: Final = 16
"""Sides of matrices in a tensor-core product are at least this long."""


class Narrow(NamedTuple):
    """What an adapter is made of, as the kernels take it.

    Args:
        inner: P [w, m].
        mix_down: [c w, k].
        bias_down: [k] or None.
        mix_up: [k, c w].
        outer: Q [w, m], not scaled.
        bias_up: [d] or None.
        activation: one of ACTIVATIONS.
        scale: a fixed scaling.
    """

    inner: Tensor
    mix_down: Tensor
    bias_down: Tensor | None
    mix_up: Tensor
    outer: Tensor
    bias_up: Tensor | None
    activation: Activation
    scale: float


def supports(x: Tensor, narrow: Narrow) -> bool:
    """Whether the kernels take these types and sizes."""
    fits = narrow.inner.shape[0] <= MAX_WIDTH and narrow.mix_down.shape[1] <= MAX_BOTTLENECK
    return fits and narrow.activation in ACTIVATIONS and x.dtype in TYPES and narrow.inner.dtype in TYPES


def forward(x: Tensor, skip: Tensor | None, narrow: Narrow) -> tuple[Tensor, Tensor]:
    """Y = skip + scale (act(x Wd + bd) Wu + bu), and u [N, c w] in float32.

    Args:
        x: [..., d].
        skip: [..., d] or None.
        narrow: of the adapter.

    Returns:
        y, of the type of skip or else of x, and u.
    """
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    onto = rows if skip is None else skip.reshape(rows.shape).contiguous()
    y, u = torch.empty_like(onto), rows.new_empty(len(rows), narrow.mix_down.shape[0], dtype=torch.float32)
    arguments = _contiguous(narrow)
    forward_kernel[_grid(rows)](rows, onto, *arguments, y, u, len(rows), HAS_SKIP=skip is not None, **_sizes(narrow))
    return y.view(x.shape), u


def backward(g: Tensor, u: Tensor, narrow: Narrow, *, adds_g: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, v and z, given that of delta.

    Args:
        g: [..., d], the cotangent.
        u: of the forward pass, rounded to any type.
        narrow: of the adapter.
        adds_g: whether skip is x, so that g joins dx.

    Returns:
        dx [..., d] of the type of g; dv [N, c w] and dz [N, k] of the type of u.
    """
    rows = g.reshape(-1, g.shape[-1]).contiguous()
    dx = torch.empty_like(rows)
    dv = torch.empty_like(u)
    dz = u.new_empty(len(rows), narrow.mix_down.shape[1])
    arguments = _contiguous(narrow)
    backward_kernel[_grid(rows)](rows, u, *arguments, dx, dv, dz, len(rows), ADDS_G=adds_g, **_sizes(narrow))
    return dx.view(g.shape), dv, dz


def _grid(rows: Tensor) -> tuple[int]:
    return (triton.cdiv(len(rows), _ROWS),)


def _contiguous(narrow: Narrow) -> tuple[Any, ...]:
    """The kernels' arguments; a tensor that is not read stands for a bias that is not there."""
    tensors = (narrow.inner, narrow.mix_down, narrow.bias_down, narrow.mix_up, narrow.outer, narrow.bias_up)
    return (*(narrow.inner if tensor is None else tensor.contiguous() for tensor in tensors), narrow.scale)


def _sizes(narrow: Narrow) -> dict[str, Any]:
    width, m = narrow.inner.shape
    k = narrow.mix_down.shape[1]
    return {
        "C": narrow.mix_down.shape[0] // width,
        "M": m,
        "W": width,
        "K": k,
        "HAS_BD": narrow.bias_down is not None,
        "HAS_BU": narrow.bias_up is not None,
        "ACTIVATION": ACTIVATIONS.index(narrow.activation),
        "ROWS": _ROWS,
        "CHUNK": _CHUNK,
        "WIDE_W": max(_SMALLEST, triton.next_power_of_2(width)),
        "WIDE_K": max(_SMALLEST, triton.next_power_of_2(k)),
    }
