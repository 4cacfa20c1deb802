"""A projection's weight in two factors: a wide one, beside the hidden states, and a narrow mixing matrix.

Same symbols as the reference: y = x W + b with W [in, out], A the phm_rule [n, n, n], m = in / n, q = out / n, and N
rows. For a sum of Kronecker products, W[a m + p, b q + j] = sum_i A[i, a, b] V_i[p, j], so the n blocks of a row, one
after the other, meet the same small V_i (for lphm s_i t_i), and A mixes them. Going down, from d to k, and going up,

    down    x W = mix(X P^T)     X [N c, m] is x as it lies in memory;    P [w, m];    c = n with a rule, else 1
    up      a W = mix(a) Q       mix(a) [N c, w];                         Q [w, q]

where mix multiplies rows by a matrix M made of small tensors only:

                 P                      M down                         Q                M up
    dense        W^T                    none                           W                none
    low_rank     s^T                    t                              t                s
    phm          P[(i j), p] = W_i[p,j] M[(a i), b] = A[i,a,b]         W as [n m, q]    M[a, (b i)] = A[i,a,b]
    lphm         P[(i rho), p] = s_i    M[(a i rho), (b j)] = A_i t_i  t as [n r, q]    M[(a p), (b i rho)] = A_i s_i

phm mixes blocks at each place j (down) or p (up) alike: these places are `carried` through. No Kronecker product is
built. A hidden state takes part in one product, of w multiplications per number, which reads x or writes y once.

The gradients of the forms stand beside them. They are written as operations that PyTorch can differentiate again.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from compacter_core.layout import RULE, RULE_LEFT, RULE_RIGHT, Side


class Factors(NamedTuple):
    """The tensors that make a weight, or their gradients.

    Args:
        rule: A [n, n, n], of phm and lphm.
        left: W_left; W, of dense and phm.
        right: W_right, of low_rank and lphm.
    """

    rule: Tensor | None
    left: Tensor
    right: Tensor | None

    @property
    def blocks(self) -> int:
        """The n of a rule; 1 without one."""
        return 1 if self.rule is None else self.rule.shape[0]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Factors":
        """From tensors by short name, as in `compacter_core.layout`; a bias among them is ignored."""
        has_rule = RULE in tensors or RULE_LEFT in tensors
        left = tensors["W_left"] if "W_left" in tensors else tensors["W"]
        return cls(rule(tensors) if has_rule else None, left, tensors.get("W_right"))


def rule(tensors: Mapping[str, Tensor]) -> Tensor:
    """A [n, n, n]; when it is factored, A_i is the outer product of a column and a row."""
    if RULE in tensors:
        return tensors[RULE]
    return tensors[RULE_LEFT] * tensors[RULE_RIGHT]


def wide_factor(f: Factors, side: Side) -> Tensor:
    """P [w, m] or Q [w, q]."""
    if side is Side.UP:
        outer = f.left if f.right is None else f.right
        return outer if f.rule is None else outer.flatten(0, 1)
    return f.left.t() if f.rule is None else f.left.transpose(1, 2).flatten(0, 1)


def wide_factor_vjp(f: Factors, side: Side, g: Tensor) -> Tensor:
    """The gradient of the tensor that `wide_factor` shows, in its shape, given that of P or Q."""
    if side is Side.UP:
        return g.view((f.left if f.right is None else f.right).shape)
    if f.rule is None:
        return g.t()
    n, m, width = f.left.shape
    return g.view(n, width, m).transpose(1, 2)


def mixing(f: Factors, side: Side) -> Tensor | None:
    """M; None for the identity."""
    if f.rule is None:
        return None if f.right is None else (f.right if side is Side.DOWN else f.left)
    n = f.blocks
    if f.right is None:
        return f.rule.transpose(0, 1).reshape(n * n, n) if side is Side.DOWN else f.rule.permute(1, 2, 0).flatten(1)
    small = _small_factor(f, side)
    # Column A_i times row t_i or s_i, for every i: all numbers of M, in another order.
    terms = (f.rule.reshape(n, n * n, 1) * small.reshape(n, 1, -1)).view(n, n, n, *small.shape[1:])
    if side is Side.DOWN:  # [i, a, b, rho, j]
        return terms.permute(1, 0, 3, 2, 4).reshape(n * n * small.shape[1], n * small.shape[2])
    return terms.permute(1, 3, 2, 0, 4).reshape(n * small.shape[1], n * n * small.shape[2])  # [i, a, b, p, rho]


def mixing_vjp(f: Factors, side: Side, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the rule and of the tensor that M is made with, given that of M."""
    if f.rule is None:
        return None, g
    n = f.blocks
    if f.right is None:
        return (g.view(n, n, n).transpose(0, 1) if side is Side.DOWN else g.view(n, n, n).permute(2, 0, 1)), None
    small = _small_factor(f, side)
    if side is Side.DOWN:
        terms = g.view(n, n, small.shape[1], n, small.shape[2]).permute(1, 0, 3, 2, 4)
    else:
        terms = g.view(n, small.shape[1], n, n, small.shape[2]).permute(3, 0, 2, 1, 4)
    terms = terms.reshape(n, n * n, -1)
    d_rule = torch.bmm(terms, small.reshape(n, -1, 1)).view(f.rule.shape)
    return d_rule, torch.bmm(f.rule.reshape(n, 1, n * n), terms).view(small.shape)


def _small_factor(f: Factors, side: Side) -> Tensor:
    """T [n, r, q] going down, s [n, p, r] going up: what lphm mixes with."""
    if f.right is None:
        raise TypeError("not an lphm")
    return f.right if side is Side.DOWN else f.left


def carried(f: Factors, side: Side) -> int:
    """How many places of a block pass through the mixing unmixed: j (down) or p (up) of phm, else 1."""
    if f.rule is None or f.right is not None:
        return 1
    return f.left.shape[2] if side is Side.DOWN else f.left.shape[1]


def mix(u: Tensor, M: Tensor | None, places: int, bias: Tensor | None = None) -> Tensor:
    """Rows u [N, ...] multiplied by M at each of the carried places, and a bias added to the rows."""
    if M is not None and places == 1:
        return u @ M if bias is None else torch.addmm(bias, u, M)
    y = u if M is None else _with_places_last(_with_places_first(u, places) @ M, places)
    return y if bias is None else y + bias


def mix_vjp(u: Tensor, M: Tensor | None, places: int, g: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients of u and of M, given that of `mix(u, M, places)`."""
    if M is None:
        return g, None
    g = _with_places_first(g, places)
    return _with_places_last(g @ M.t(), places), _with_places_first(u, places).t() @ g


def _with_places_first(u: Tensor, places: int) -> Tensor:
    """[N, blocks places] as [N places, blocks]."""
    if places == 1:
        return u
    return u.view(-1, u.shape[1] // places, places).transpose(1, 2).flatten(0, 1)


def _with_places_last(u: Tensor, places: int) -> Tensor:
    """[N places, blocks] as [N, blocks places]."""
    if places == 1:
        return u
    return u.view(-1, places, u.shape[1]).transpose(1, 2).flatten(1)
