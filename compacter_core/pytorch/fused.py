"""One adapter as one node of PyTorch's graph: few products, and little more than x is kept for the backward pass.

With the projections split as in `factors`, x as X [N c, m], c = n for kinds with a rule, else 1, and a fixed scaling
multiplied into Q and bu,

    u = X P^T       z = mix_d(u) + bd       a = act(z)       v = [mix_u(a), I]       y = skip + v [Q; bu]

where I has one column per block, with ones in the block's rows, so that the one product adds bu, read as [c, q], too.
u has n^2 r numbers per row for lphm, r for low_rank, k for dense, n k for phm. It is kept where it is no wider than the
bottleneck and else computed again from x, like all that stands between u and y. With G [N c, q] the cotangent of y,

    dv = G Q^T      d[Q; bu] = v^T G      dz = mix_u'(dv) act'(z)      du = mix_d'(dz)      dP = du^T X      dX = du P

so that hidden states pass through two products forward and four backward, and where skip is x, its gradient G joins the
last of them.

A second derivative is that of these formulas, where u is computed again: nothing that was kept takes part in it.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from compacter_core.layout import Side
from compacter_core.pytorch.factors import (
    Factors,
    carried,
    mix,
    mix_vjp,
    mixing,
    mixing_vjp,
    wide_factor,
    wide_factor_vjp,
)
from compacter_core.pytorch.functional import activate, activate_vjp
from compacter_core.pytorch.site_tensors import Options, SiteTensors

_ONE_PANEL: Final = 128
"""BLAS libraries sum up so many products in registers before they add the sum to what it goes onto, so that y is
rounded once (NUM-8). A longer sum may go onto skip in pieces, each rounded at the size of skip."""


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
    with _without_autocast(x):
        return _Site(tensors, options).forward(x, skip)[0]


class _Adapt(torch.autograd.Function):
    """`adapt` with its gradients; `adds_x` stands for skip = x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, skip: Tensor | None, adds_x: bool, *rest: Any) -> Tensor:
        ctx.adds_x, (ctx.options, *flat) = adds_x, rest
        with _without_autocast(x):
            y, kept = _Site(SiteTensors.of(tuple(flat)), ctx.options).forward(x, x if adds_x else skip)
        ctx.save_for_backward(x, kept, *flat)
        return y

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Any, ...]:
        (g,) = cotangents
        x, kept, *flat = ctx.saved_tensors
        with _without_autocast(x):
            site = _Site(SiteTensors.of(tuple(flat)), ctx.options)
            dx, gradients = site.backward(x, None if torch.is_grad_enabled() else kept, g, adds_x=ctx.adds_x)
            gradients = gradients.with_rules_summed() if site.tensors.shares_rule else gradients
        return dx, g if ctx.needs_input_grad[1] else None, None, None, *gradients.flat()


class _Middle(NamedTuple):
    """What is computed between the products with hidden states, N rows each but for v, with N c.

    Args:
        u: input of the down-projection's mixing, [N, c w].
        mix_down: matrix of that mixing.
        z: argument of the activation, [N, k].
        a: its value, [N, k].
        mix_up: matrix of the up-projection's mixing.
        v: [mix(a), I], [N c, w (+ c)].
    """

    u: Tensor
    mix_down: Tensor | None
    z: Tensor
    a: Tensor
    mix_up: Tensor | None
    v: Tensor


class _Site(NamedTuple):
    """The computation at one site."""

    tensors: SiteTensors
    options: Options

    def forward(self, x: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Y, and u where it is worth keeping."""
        kernels, narrow = self._kernels(x, skip)
        if kernels is not None:
            y, u = kernels.forward(x, skip, narrow)
            return y, (u if u.shape[1] <= narrow.mix_down.shape[1] else None)
        u = self._enter(x)
        middle = self._middle(u)
        if self.tensors.scaling is None:
            y = _wide_product(middle.v, self._outer(), x, skip)
        else:
            y = _sum((self._unscaled(middle, x) * self.tensors.scaling).to(x.dtype), skip)
        return y, (u if u.shape[1] <= middle.z.shape[1] else None)

    def backward(self, x: Tensor, kept: Tensor | None, g: Tensor, *, adds_x: bool) -> tuple[Tensor, SiteTensors]:
        """Gradients of x, with that of a skip that is x, and of the tensors, given u or else computing it."""
        scaling, product_type = self.tensors.scaling, self.options.product_type
        middle = self._middle(self._enter(x) if kept is None else kept)
        d_delta, d_scaling = g.to(x.dtype).to(product_type), None
        if scaling is not None:
            d_scaling = (d_delta * self._unscaled(middle, x)).sum_to_size(scaling.shape).to(scaling.dtype)
            d_delta = (d_delta * scaling).to(product_type)
        kernels, narrow = self._kernels(x, g)
        if kernels is None:
            dv = self._leave_vjp(d_delta).to(middle.a.dtype)
            da, d_up, d_up_bias = self._up_vjp(middle, dv, d_delta)
            dz = activate_vjp(self.options.activation, middle.z, middle.a, da)
            du, d_down = self._down_vjp(middle, dz, x)
            dx = _wide_product(du, self._inner(), x, g if adds_x else None)
        else:
            dx, dv, dz = kernels.backward(g, middle.u, narrow, adds_g=adds_x)
            _, d_up, d_up_bias = self._up_vjp(middle, dv, d_delta)
            _, d_down = self._down_vjp(middle, dz, x)
        d_down_bias = None if self.tensors.down_bias is None else dz.sum(0)
        return dx, SiteTensors(d_down, d_down_bias, d_up, d_up_bias, d_scaling)

    def _enter(self, x: Tensor) -> Tensor:
        """X P^T as [N, c w]."""
        inner = self._inner()
        rows = x.to(inner.dtype).reshape(-1, inner.shape[1])
        return (rows @ inner.contiguous().t()).view(-1, self.tensors.down.blocks * inner.shape[0])

    def _down_vjp(self, middle: _Middle, dz: Tensor, x: Tensor) -> tuple[Tensor, Factors]:
        """Gradients of X P^T, as [N c, w], and of the down-projection's tensors, given that of z."""
        down, inner = self.tensors.down, self._inner()
        du, d_mixing = mix_vjp(middle.u, middle.mix_down, carried(down, Side.DOWN), dz)
        d_rule, d_right = (None, None) if d_mixing is None else mixing_vjp(down, Side.DOWN, d_mixing)
        rows = du.to(inner.dtype).view(-1, inner.shape[0])
        d_inner = rows.t() @ x.to(inner.dtype).reshape(-1, inner.shape[1])
        return rows, Factors(d_rule, wide_factor_vjp(down, Side.DOWN, d_inner.to(dz.dtype)), d_right)

    def _middle(self, u: Tensor) -> _Middle:
        (down, down_bias, up, up_bias, _), options = self.tensors, self.options
        u = u.to(down.left.dtype)
        mix_down, mix_up = mixing(down, Side.DOWN), mixing(up, Side.UP)
        z = mix(u, mix_down, carried(down, Side.DOWN))
        z = z if down_bias is None else z + down_bias
        a = activate(options.activation, z)
        mixed = mix(a, mix_up, carried(up, Side.UP)).to(options.product_type)
        v = mixed.view(-1, mixed.shape[1] // up.blocks)
        if up_bias is not None:
            ones = torch.eye(up.blocks, dtype=v.dtype, device=v.device)
            v = torch.cat((v, ones.expand(mixed.shape[0], -1, -1).flatten(0, 1)), dim=1)
        return _Middle(u, mix_down, z, a, mix_up, v)

    def _unscaled(self, middle: _Middle, x: Tensor) -> Tensor:
        """O = v [Q; bu], of the product's type and the shape of x."""
        return _product(middle.v, self._outer()).view(x.shape)

    def _leave_vjp(self, d_delta: Tensor) -> Tensor:
        """The gradient of mix(a), [N, c w], given that of delta."""
        up, outer = self.tensors.up, self._outer(with_bias=False)
        dv = d_delta.reshape(-1, outer.shape[1]) @ outer.t()
        return dv.view(-1, up.blocks * outer.shape[0])

    def _up_vjp(self, middle: _Middle, dv: Tensor, d_delta: Tensor) -> tuple[Tensor, Factors, Tensor | None]:
        """Gradients of a, of the up-projection's tensors and of its bias, given those of mix(a) and delta."""
        up = self.tensors.up
        da, d_mixing = mix_vjp(middle.a, middle.mix_up, carried(up, Side.UP), dv)
        d_rule, d_left = (None, None) if d_mixing is None else mixing_vjp(up, Side.UP, d_mixing)
        d_outer = (middle.v.t() @ d_delta.reshape(-1, d_delta.shape[-1] // up.blocks)).to(dv.dtype)
        d_outer = d_outer if self.options.scale == 1 else d_outer * self.options.scale
        width = dv.shape[1] // up.blocks
        d_right = wide_factor_vjp(up, Side.UP, d_outer[:width])
        # Without a rank there is one tensor, and it is the wide factor.
        factors = Factors(d_rule, d_right, None) if d_left is None else Factors(d_rule, d_left, d_right)
        return da, factors, None if self.tensors.up_bias is None else d_outer[width:].flatten()

    def _inner(self) -> Tensor:
        """P [w, m]."""
        return wide_factor(self.tensors.down, Side.DOWN).to(self.options.product_type)

    def _outer(self, *, with_bias: bool = True) -> Tensor:
        """[Q; bu], scaled, [w + c, q]; Q alone without the bias."""
        up, bias = self.tensors.up, self.tensors.up_bias
        outer = wide_factor(up, Side.UP)
        outer = torch.cat((outer, bias.view(up.blocks, -1))) if bias is not None and with_bias else outer
        return (outer if self.options.scale == 1 else outer * self.options.scale).to(self.options.product_type)

    def _kernels(self, x: Tensor, other: Tensor | None) -> tuple[Any, Any]:
        """The kernels and their argument, where they serve these tensors; no derivative passes through a kernel."""
        down, down_bias, up, up_bias, scaling = self.tensors
        kernels = kernels_for(x)
        mixed = kernels is not None and down.right is not None and scaling is None
        if not mixed or torch.is_grad_enabled() or (other is not None and other.dtype is not x.dtype):
            return None, None
        narrow = kernels.Narrow(
            wide_factor(down, Side.DOWN),
            mixing(down, Side.DOWN),
            down_bias,
            mixing(up, Side.UP),
            wide_factor(up, Side.UP),
            up_bias,
            self.options.activation,
            self.options.scale,
        )
        return (kernels, narrow) if kernels.supports(x, narrow) else (None, None)


def kernels_for(x: Tensor) -> Any:
    """The module with kernels for the device of x; None where there is none, and while a compiler traces."""
    return None if torch.compiler.is_compiling() or not x.is_cuda else _triton()


@cache
def _triton() -> Any:
    found = find_spec("triton") is not None
    return import_module("compacter_core.pytorch.triton_adapter") if found else None


def _product(narrow: Tensor, wide: Tensor) -> Tensor:
    """Narrow times wide; with wide laid out by column, BLAS libraries on CPUs are several times faster here."""
    return narrow @ wide.t().contiguous().t()


def _wide_product(narrow: Tensor, wide: Tensor, like: Tensor, skip: Tensor | None) -> Tensor:
    """Skip + narrow wide, in the shape of `like`; the product is rounded to the type of `like`, the sum to skip's."""
    if skip is not None and skip.dtype is like.dtype is wide.dtype and narrow.shape[1] <= _ONE_PANEL:
        return torch.addmm(skip.reshape(-1, wide.shape[1]), narrow, wide).view(like.shape)
    return _sum(_product(narrow, wide).view(like.shape).to(like.dtype), skip)


def _sum(y: Tensor, skip: Tensor | None) -> Tensor:
    """Y + skip in the type of skip; nobody else holds y."""
    if skip is None:
        return y
    return y.add_(skip) if y.dtype is skip.dtype else y.to(skip.dtype) + skip


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Types are chosen here, in both directions."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
