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
    A, terms = _lphm_terms(f, side)
    return (A * terms).flatten(-2).flatten(0, -2) if side is Side.DOWN else (A * terms).flatten(2).flatten(0, 1)


def mixing_vjp(f: Factors, side: Side, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the rule and of the tensor that M is made with, given that of M."""
    if f.rule is None:
        return None, g
    n = f.blocks
    if f.right is None:
        return (g.view(n, n, n).transpose(0, 1) if side is Side.DOWN else g.view(n, n, n).permute(2, 0, 1)), None
    A, terms = _lphm_terms(f, side)
    if side is Side.DOWN:  # [a, i, rho, b, j]
        g = g.view(n, n, terms.shape[2], n, terms.shape[4])
        return (g * terms).sum((2, 4)).transpose(0, 1), (g * A).sum((0, 3))
    g = g.view(n, terms.shape[1], n, n, terms.shape[4])  # [a, p, b, i, rho]
    return (g * terms).sum((1, 4)).permute(2, 0, 1), (g * A).sum((0, 2)).transpose(0, 1)


def _lphm_terms(f: Factors, side: Side) -> tuple[Tensor, Tensor]:
    """A and t as [a, i, rho, b, j], or A and s as [a, p, b, i, rho], to be multiplied elementwise."""
    if f.rule is None or f.right is None:
        raise TypeError("not an lphm")
    if side is Side.DOWN:
        return f.rule.transpose(0, 1)[:, :, None, :, None], f.right[None, :, :, None, :]
    return f.rule.permute(1, 2, 0)[:, None, :, :, None], f.left.transpose(0, 1)[None, :, None, :, :]


def carried(f: Factors, side: Side) -> int:
    """How many places of a block pass through the mixing unmixed: j (down) or p (up) of phm, else 1."""
    if f.rule is None or f.right is not None:
        return 1
    return f.left.shape[2] if side is Side.DOWN else f.left.shape[1]


def mix(u: Tensor, M: Tensor | None, places: int) -> Tensor:
    """Rows u [N, ...] multiplied by M at each of the carried places."""
    if M is None:
        return u
    return _with_places_last(_with_places_first(u, places) @ M, places)


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
