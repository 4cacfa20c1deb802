"""The adapter's equations on PyTorch tensors, as plain operations whose gradients PyTorch finds.

`fused` is the faster form of the same; this one is what it is compared with, and what a projection by itself runs.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from compacter_core.layout import Side
from compacter_core.pytorch.factors import Factors, carried, mix, mixing, rule, wide_factor
from compacter_core.vocabulary import Activation, ProjectionKind


def activate(kind: Activation, z: Tensor) -> Tensor:
    """The non-linearity, elementwise; gelu_new is the tanh form, gelu the one with erf (FWD-14, FWD-15)."""
    match kind:
        case Activation.GELU_NEW:
            return functional.gelu(z, approximate="tanh")
        case Activation.GELU:
            return functional.gelu(z)
        case Activation.RELU:
            return functional.relu(z)
        case Activation.SILU:
            return functional.silu(z)
        case Activation.TANH:
            return torch.tanh(z)
        case Activation.IDENTITY:
            return z


def activate_vjp(kind: Activation, z: Tensor, a: Tensor, g: Tensor) -> Tensor:
    """The gradient of z, given that of a = act(z): g act'(z) (GRD-11)."""
    aten: Any = torch.ops.aten
    match kind:
        case Activation.GELU_NEW:
            gradient = aten.gelu_backward(g, z, approximate="tanh")
        case Activation.GELU:
            gradient = aten.gelu_backward(g, z)
        case Activation.RELU:
            gradient = aten.threshold_backward(g, z, 0)
        case Activation.SILU:
            gradient = aten.silu_backward(g, z)
        case Activation.TANH:
            gradient = aten.tanh_backward(g, a)
        case Activation.IDENTITY:
            gradient = g
    return cast(Tensor, gradient)


def weight(kind: ProjectionKind, tensors: Mapping[str, Tensor]) -> Tensor:
    """W [in, out] with its Kronecker products carried out: for export and for tests, never for training."""
    match kind:
        case ProjectionKind.DENSE:
            return tensors["W"]
        case ProjectionKind.LOW_RANK:
            return tensors["W_left"] @ tensors["W_right"]
        case ProjectionKind.PHM:
            small = tensors["W"]
        case ProjectionKind.LPHM:
            small = tensors["W_left"] @ tensors["W_right"]
    blocks = torch.einsum("iab,ipj->apbj", rule(tensors), small)
    n, m, _, q = blocks.shape
    return blocks.reshape(n * m, n * q)


def project(f: Factors, side: Side, x: Tensor) -> Tensor:
    """Y = x W, without the bias, in the factors of `factors`.

    Args:
        f: what W is made of.
        side: whether x meets the wide factor first, or the narrow one.
        x: [..., in], of the tensors' data type.

    Returns:
        [..., out].
    """
    wide, M, places = wide_factor(f, side), mixing(f, side), carried(f, side)
    if side is Side.DOWN:
        entered = x.reshape(-1, wide.shape[1]) @ wide.t()
        y = mix(entered.view(-1, f.blocks * wide.shape[0]), M, places)
    else:
        mixed = mix(x.reshape(-1, x.shape[-1]), M, places)
        y = (mixed.reshape(-1, wide.shape[0]) @ wide).view(-1, f.blocks * wide.shape[1])
    return y.view(*x.shape[:-1], y.shape[1])
