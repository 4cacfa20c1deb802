"""The adapter on CUDA in one kernel each way: x is read and y written once; g is read and dx written once.

A program takes a block of rows through the whole adapter: u = X P^T block by block, z, act(z), then v Q and the sum
with skip, with everything between x and y in registers (see `fused` for the symbols). Where skip is x, its second read
comes from the cache. Sums, and all that is narrow, are float32 whatever the type of x. The backward kernel takes g
through the same steps in reverse and leaves dv and dz, from which the gradients of the tensors are small products.

For low_rank and lphm, whose narrow sides fit in registers, and every activation but tanh. All else, and every machine
without Triton or CUDA, takes the plain operations of `fused`, which are also what the kernels are tested against.
Tested in Triton's interpreter only (TRITON_INTERPRET=1): it has never run on a GPU.
"""

from typing import Any, Final

import torch
import triton
from torch import Tensor

from compacter_core.layout import Side
from compacter_core.pytorch.factors import Factors, wide_factor
from compacter_core.pytorch.kernels.triton_kernels import backward_kernel, forward_kernel
from compacter_core.pytorch.products import cast
from compacter_core.pytorch.site_steps import Kept, Middle, Steps
from compacter_core.pytorch.site_tensors import SiteTensors
from compacter_core.vocabulary import Activation

ACTIVATIONS: Final = (Activation.GELU_NEW, Activation.GELU, Activation.RELU, Activation.SILU, Activation.IDENTITY)
TYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
MAX_WIDTH: Final = 64
MAX_BOTTLENECK: Final = 256

_ROWS: Final = 16
_CHUNK: Final = 64
_SMALLEST: Final = 16
"""Sides of matrices in a tensor-core product are at least this long."""


def supports(steps: Steps, x: Tensor) -> bool:
    """Whether the kernels take these types and sizes."""
    down, types = steps.tensors.down, (x.dtype, steps.tensors.down.left.dtype)
    fits = _width(down) <= MAX_WIDTH and 0 < _bottleneck(down) <= MAX_BOTTLENECK
    return fits and steps.options.activation in ACTIVATIONS and all(one in TYPES for one in types)


def forward(steps: Steps, x: Tensor, skip: Tensor | None) -> tuple[Tensor, Kept]:
    """Y, of the type of skip or else of x, and what is worth keeping, with u [N, c w] in float32."""
    mixings = steps.mixings()
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    onto = rows if skip is None else skip.reshape(rows.shape).contiguous()
    sizes = _sizes(steps)
    width, k = sizes["C"] * sizes["W"], sizes["K"]
    y, u = torch.empty_like(onto), rows.new_empty(len(rows), width, dtype=torch.float32)
    given = _arguments(steps, mixings)
    forward_kernel[_grid(rows)](rows, onto, *given, y, u, len(rows), HAS_SKIP=skip is not None, **sizes)
    return y.view(x.shape), mixings._replace(u=u if width <= k else None)


def backward(steps: Steps, kept: Kept, x: Tensor, g: Tensor, *, adds_g: bool) -> tuple[Tensor, SiteTensors]:
    """Gradients of x, of the type of g, and of the tensors, which are products of what the kernel leaves, dv and dz."""
    middle = steps.middle(x, kept)
    rows = g.reshape(-1, g.shape[-1]).contiguous()
    dx, dv, dz = torch.empty_like(rows), torch.empty_like(middle.u), torch.empty_like(middle.z)
    given = _arguments(steps, middle)
    backward_kernel[_grid(rows)](rows, middle.u, *given, dx, dv, dz, len(rows), ADDS_G=adds_g, **_sizes(steps))
    _, d_up, d_up_bias = steps.up_vjp(middle, dv, cast(g, steps.options.product_type))
    _, d_down = steps.down_vjp(middle, dz, x)
    d_down_bias = None if steps.tensors.down_bias is None else dz.sum(0)
    return dx.view(g.shape), SiteTensors(d_down, d_down_bias, d_up, d_up_bias, None)


def _grid(rows: Tensor) -> tuple[int]:
    return (triton.cdiv(len(rows), _ROWS),)


def _arguments(steps: Steps, mixings: Kept | Middle) -> tuple[Any, ...]:
    """The kernels' arguments; a tensor that is not read stands for a bias that is not there."""
    down, bias_down, up, bias_up, _ = steps.tensors
    inner, outer = wide_factor(down, Side.DOWN), wide_factor(up, Side.UP)
    tensors = (inner, mixings.mix_down, bias_down, mixings.mix_up, outer, bias_up)
    return (*(inner if tensor is None else tensor.contiguous() for tensor in tensors), steps.options.scale)


def _sizes(steps: Steps) -> dict[str, Any]:
    down, options = steps.tensors.down, steps.options
    width, k = _width(down), _bottleneck(down)
    return {
        "C": down.blocks,
        "M": down.left.shape[-2],
        "W": width,
        "K": k,
        "HAS_BD": steps.tensors.down_bias is not None,
        "HAS_BU": steps.tensors.up_bias is not None,
        "ACTIVATION": ACTIVATIONS.index(options.activation),
        "ROWS": _ROWS,
        "CHUNK": _CHUNK,
        "WIDE_W": max(_SMALLEST, triton.next_power_of_2(width)),
        "WIDE_K": max(_SMALLEST, triton.next_power_of_2(k)),
    }


def _width(down: Factors) -> int:
    """W, of u in one block."""
    return down.blocks * down.left.shape[-1]


def _bottleneck(down: Factors) -> int:
    """K of a down-projection that has a rank."""
    return 0 if down.right is None else down.blocks * down.right.shape[-1]
