"""One adapter as one node of PyTorch's graph: few products, and little more than x is kept for the backward pass.

With the projections split as in `factors`, x as X [N c, m], c = n for kinds with a rule, else 1, and a fixed scaling
multiplied into Q and bu,

    u = X P^T       z = mix_d(u) + bd       a = act(z)       v = [I, mix_u(a)]       y = skip + v [bu; Q]

where I has one column per block, with ones in the block's rows, so that the one product adds bu, read as [c, q], too.
u has n^2 r numbers per row for lphm, r for low_rank, k for dense, n k for phm. Of what stands between x and y, a is
kept with the mixing matrices, and u where it is no wider than the bottleneck; z and mix_u(a), and a wider u, are
computed again. With G [N c, q] the cotangent of y,

    dmix_u = G Q^T   dQ = mix_u(a)^T G   dbu = 1^T G   dz = mix_u'(dmix_u) act'(z)   du = mix_d'(dz)   dP = du^T X
    dX = du P

so that hidden states pass through two products forward and four backward, and where skip is x, its gradient G joins the
last of them.

Where a device has `kernels`, they do all of this in few passes, and keep less.

A second derivative is that of these formulas, where all is computed again: nothing that was kept takes part in it.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from compacter_core.pytorch.functional import activate_vjp
from compacter_core.pytorch.kernels import Kernels, kernels_for
from compacter_core.pytorch.products import cast, onto, product_onto
from compacter_core.pytorch.site_steps import Kept, Steps
from compacter_core.pytorch.site_tensors import Options, SiteTensors


def adapt(x: Tensor, skip: Tensor | None, tensors: SiteTensors, options: Options) -> Tensor:
    """Y = skip + scaling * (act(x Wd + bd) Wu + bu) (FWD-1, FWD-2).

    Args:
        x: [..., d].
        skip: [..., d], x itself, or None for 0.
        tensors: of the site, all of one data type.
        options: what is not a tensor.

    Returns:
        [..., d], of the type of skip, or of x without one.
    """
    flat = tensors.flat()
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in (x, skip, *flat)):
        adds_x = skip is x
        y: Tensor = _Adapt.apply(x, None if adds_x else skip, adds_x, options, *flat)  # type: ignore[no-untyped-call]  # PyTorch's annotations lack it
        return y
    with torch.no_grad(), _without_autocast(x):
        return _forward(Steps(tensors, options), x, skip)[0]


class _Adapt(torch.autograd.Function):
    """`adapt` with its gradients; `adds_x` stands for skip = x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, skip: Tensor | None, adds_x: bool, *rest: Any) -> Tensor:
        ctx.adds_x, (ctx.options, *flat) = adds_x, rest
        with _without_autocast(x):
            y, kept = _forward(Steps(SiteTensors.of(tuple(flat)), ctx.options), x, x if adds_x else skip)
        ctx.save_for_backward(x, *kept, *flat)
        return y

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Any, ...]:
        (g,) = cotangents
        x, u, mix_down, a, mix_up, *flat = ctx.saved_tensors
        with _without_autocast(x):
            steps = Steps(SiteTensors.of(tuple(flat)), ctx.options)
            kept = steps.mixings() if torch.is_grad_enabled() else Kept(u, mix_down, a, mix_up)
            dx, gradients = _backward(steps, x, kept, g, adds_x=ctx.adds_x)
            if steps.tensors.shares_rule and not gradients.shares_rule:
                gradients = gradients.with_rules_summed()
        return dx, g if ctx.needs_input_grad[1] else None, None, None, *gradients.flat()


def _forward(steps: Steps, x: Tensor, skip: Tensor | None) -> tuple[Tensor, Kept]:
    """Y, and what is worth keeping."""
    kernels = _kernels(steps, x, skip)
    if kernels is not None:
        return kernels.forward(steps, x, skip)
    middle = steps.middle(x, steps.mixings())
    if steps.tensors.scaling is None:
        y = product_onto(skip, *steps.leaving(middle), x)
    else:
        y = onto(skip, (steps.unscaled(middle, x) * steps.tensors.scaling).to(x.dtype))
    return y, middle.worth_keeping()


def _backward(steps: Steps, x: Tensor, kept: Kept, g: Tensor, *, adds_x: bool) -> tuple[Tensor, SiteTensors]:
    """Gradients of x, with that of a skip that is x, and of the tensors."""
    kernels = _kernels(steps, x, g)
    if kernels is not None:
        return kernels.backward(steps, kept, x, g, adds_g=adds_x)
    scaling, product_type = steps.tensors.scaling, steps.options.product_type
    # A kernel that went forward keeps no mixings.
    middle = steps.middle(x, steps.mixings()._replace(u=kept.u, a=kept.a) if kept.mix_down is None else kept)
    d_delta, d_scaling = cast(cast(g, x.dtype), product_type), None
    if scaling is not None:
        d_scaling = (d_delta * steps.unscaled(middle, x)).sum_to_size(scaling.shape).to(scaling.dtype)
        d_delta = (d_delta * scaling).to(product_type)
    dv = cast(steps.leave_vjp(d_delta), middle.a.dtype)
    da, d_up, d_up_bias = steps.up_vjp(middle, dv, d_delta)
    dz = activate_vjp(steps.options.activation, middle.z, middle.a, da)
    du, d_down = steps.down_vjp(middle, dz, x)
    dx = product_onto(g if adds_x else None, du, steps.inner(), x)
    d_down_bias = None if steps.tensors.down_bias is None else dz.sum(0)
    return dx, SiteTensors(d_down, d_down_bias, d_up, d_up_bias, d_scaling)


def _kernels(steps: Steps, x: Tensor, other: Tensor | None) -> Kernels | None:
    """The kernels, where they serve these tensors; no derivative passes through a kernel."""
    (down, _, _, _, scaling), one_type = steps.tensors, other is None or other.dtype is x.dtype
    if down.right is None or scaling is not None or not one_type or torch.is_grad_enabled():
        return None
    kernels = kernels_for(x)
    return kernels if kernels is not None and kernels.supports(steps, x) else None


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Types are chosen here, in both directions."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
