"""The steps of one site's computation, and their gradients; symbols as in `fused`."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

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
from compacter_core.pytorch.functional import activate
from compacter_core.pytorch.products import cast, product, sum_over_rows
from compacter_core.pytorch.site_tensors import Options, SiteTensors


class Kept(NamedTuple):
    """What is kept of a forward pass.

    Args:
        u: input of the down-projection's mixing, [N, c w]; None where it is to be computed again.
        mix_down: matrix of that mixing; None for the identity.
        a: the activation's value, [N, k]; None where it is to be computed again.
        mix_up: matrix of the up-projection's mixing; None for the identity.
    """

    u: Tensor | None
    mix_down: Tensor | None
    a: Tensor | None
    mix_up: Tensor | None


class Middle(NamedTuple):
    """What is computed between the products with hidden states, N rows each: that of `Kept`, and z [N, k]."""

    u: Tensor
    mix_down: Tensor | None
    z: Tensor
    a: Tensor
    mix_up: Tensor | None

    def worth_keeping(self) -> Kept:
        """All but z, and u where it is no wider than the bottleneck."""
        narrow = self.u.shape[1] <= self.a.shape[1]
        return Kept(self.u if narrow else None, self.mix_down, self.a, self.mix_up)


class Steps(NamedTuple):
    """The steps at one site."""

    tensors: SiteTensors
    options: Options

    def mixings(self) -> Kept:
        """The mixing matrices alone, from which all else can be computed."""
        return Kept(None, mixing(self.tensors.down, Side.DOWN), None, mixing(self.tensors.up, Side.UP))

    def middle(self, x: Tensor, kept: Kept) -> Middle:
        """From x to a."""
        down, bias = self.tensors.down, self.tensors.down_bias
        u = cast(self._enter(x) if kept.u is None else kept.u, down.left.dtype)
        z = mix(u, kept.mix_down, carried(down, Side.DOWN), bias)
        a = activate(self.options.activation, z) if kept.a is None else kept.a
        return Middle(u, kept.mix_down, z, a, kept.mix_up)

    def leaving(self, middle: Middle) -> tuple[Tensor, Tensor]:
        """V = [I, mix(a)], [N c, c + w], and [bu; Q], scaled; without a bias, mix(a) and Q."""
        up, bias, outer = self.tensors.up, self.tensors.up_bias, self.outer()
        if bias is None:
            return self._mixed(middle).view(-1, outer.shape[0]), outer
        n, width, M, places = up.blocks, outer.shape[0], middle.mix_up, carried(up, Side.UP)
        ones = torch.eye(n, n + width, dtype=middle.a.dtype, device=middle.a.device).view(-1)
        if M is None or places > 1:
            v = _with_room(mix(middle.a, M, places), n, width) + ones
        else:
            v = mix(middle.a, _with_room(M, n, width), places, ones)
        outer = torch.cat((self._scaled(bias.view(n, -1)), outer))
        return cast(v, self.options.product_type).view(-1, n + width), outer

    def unscaled(self, middle: Middle, x: Tensor) -> Tensor:
        """O = v [bu; Q], of the product's type and the shape of x."""
        return product(*self.leaving(middle)).view(x.shape)

    def leave_vjp(self, d_delta: Tensor) -> Tensor:
        """The gradient of mix(a), [N, c w], given that of delta."""
        outer = self.outer()
        dv = d_delta.reshape(-1, outer.shape[1]) @ outer.t()
        return dv.view(-1, self.tensors.up.blocks * outer.shape[0])

    def up_vjp(self, middle: Middle, dv: Tensor, d_delta: Tensor) -> tuple[Tensor, Factors, Tensor | None]:
        """Gradients of a, of the up-projection's tensors and of its bias, given those of mix(a) and delta."""
        up, bias, scale = self.tensors.up, self.tensors.up_bias, self.options.scale
        da, d_mixing = mix_vjp(middle.a, middle.mix_up, carried(up, Side.UP), dv)
        d_rule, d_left = (None, None) if d_mixing is None else mixing_vjp(up, Side.UP, d_mixing)
        rows = d_delta.reshape(-1, d_delta.shape[-1] // up.blocks)
        v = self._mixed(middle).view(-1, dv.shape[1] // up.blocks)
        d_outer = cast(sum_over_rows(v, rows, up.blocks), dv.dtype)
        d_right = wide_factor_vjp(up, Side.UP, d_outer if scale == 1 else d_outer * scale)
        # Without a rank there is one tensor, and it is the wide factor.
        factors = Factors(d_rule, d_right, None) if d_left is None else Factors(d_rule, d_left, d_right)
        if bias is None:
            return da, factors, None
        d_bias = d_delta.reshape(-1, d_delta.shape[-1]).sum(0, dtype=dv.dtype)
        return da, factors, d_bias if scale == 1 else d_bias * scale

    def down_vjp(self, middle: Middle, dz: Tensor, x: Tensor) -> tuple[Tensor, Factors]:
        """Gradients of X P^T, as [N c, w], and of the down-projection's tensors, given that of z."""
        down, inner = self.tensors.down, self.inner()
        du, d_mixing = mix_vjp(middle.u, middle.mix_down, carried(down, Side.DOWN), dz)
        d_rule, d_right = (None, None) if d_mixing is None else mixing_vjp(down, Side.DOWN, d_mixing)
        rows = cast(du, inner.dtype).view(-1, inner.shape[0])
        d_inner = sum_over_rows(rows, cast(x, inner.dtype).reshape(-1, inner.shape[1]), down.blocks)
        return rows, Factors(d_rule, wide_factor_vjp(down, Side.DOWN, cast(d_inner, dz.dtype)), d_right)

    def inner(self) -> Tensor:
        """P [w, m]."""
        return cast(wide_factor(self.tensors.down, Side.DOWN), self.options.product_type)

    def outer(self) -> Tensor:
        """Q [w, q], scaled."""
        return self._scaled(wide_factor(self.tensors.up, Side.UP))

    def _enter(self, x: Tensor) -> Tensor:
        """X P^T as [N, c w]."""
        inner = self.inner()
        rows = cast(x, inner.dtype).reshape(-1, inner.shape[1])
        return (rows @ inner.contiguous().t()).view(-1, self.tensors.down.blocks * inner.shape[0])

    def _mixed(self, middle: Middle) -> Tensor:
        """Mix(a), [N, c w]."""
        mixed = mix(middle.a, middle.mix_up, carried(self.tensors.up, Side.UP))
        return cast(mixed, self.options.product_type)

    def _scaled(self, outer: Tensor) -> Tensor:
        return cast(outer if self.options.scale == 1 else outer * self.options.scale, self.options.product_type)


def _with_room(rows: Tensor, blocks: int, width: int) -> Tensor:
    """[N, c w] with c zeros before the w numbers of each block, [N, c (c + w)]."""
    return functional.pad(rows.view(-1, blocks, width), (blocks, 0)).flatten(1)
