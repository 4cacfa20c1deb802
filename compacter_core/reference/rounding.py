"""How much rounding can move a projection, an activation or a product: the pieces of the error bounds.

The model (Higham, Accuracy and Stability of Numerical Algorithms, sections 2.2 and 3.1). Every operation returns
(exact)(1 + e) + f. A result that is stored has |e| <= u_s and |f| <= eta_s; a partial sum inside a contraction has
|e| <= u_a and, with its product, |f| <= 2 eta_a. A quantity reached through P stored results and K partial sums is so
off by at most a factor (1 + u_s)^P (1 + u_a)^K, whatever the order of the sums. Overflow is outside the model.

Derivations are in the functions' docstrings. W' is the weight made of the absolute values of its tensors: the error of
a multilinear form is bounded by the same form of absolute values, so the reference's own code evaluates the bounds.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Self

import numpy as np

from compacter_core.adapter import Array, DType, ProjectionParameters, SiteParameters
from compacter_core.reference.activations import activate
from compacter_core.reference.projection import fast_weight, project, rule, weight
from compacter_core.vocabulary import Activation, ProjectionKind

_LIPSCHITZ: Final = {
    Activation.GELU_NEW: 1.12900,
    Activation.GELU: 1.12891,
    Activation.RELU: 1.0,
    Activation.SILU: 1.09984,
    Activation.TANH: 1.0,
    Activation.IDENTITY: 1.0,
}
"""The largest |act'|, rounded up."""

SLACK: Final = 1.0 + 2.0**-20
"""Covers the rounding of the bounds themselves."""

_EXACT: Final = (Activation.RELU, Activation.IDENTITY)
"""Activations that round nothing."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Roundoffs u and underflow thresholds eta of storage and accumulation.

    eta is the smallest normal number, since hardware may flush subnormals to zero. Not so for F16, where it is the
    smallest subnormal: half precision is stored with gradual underflow everywhere, and 2^-14 would drown small weights.
    """

    u_s: float
    u_a: float
    eta_s: float
    eta_a: float

    @classmethod
    def of(cls, storage: DType, accumulate: DType) -> Self:
        """The precision of these types."""
        return cls(storage.roundoff, accumulate.roundoff, _underflow(storage), _underflow(accumulate))

    def growth(self, stored: int, accumulated: int = 0) -> float:
        """(1 + u_s)^stored (1 + u_a)^accumulated - 1, without cancellation."""
        return math.expm1(stored * math.log1p(self.u_s) + accumulated * math.log1p(self.u_a))


def _underflow(dtype: DType) -> float:
    return 2.0**-24 if dtype is DType.F16 else dtype.smallest_normal


def float64_site(site: SiteParameters) -> SiteParameters:
    """The site with float64 tensors."""
    scaling = np.asarray(site.scaling, dtype=np.float64) if isinstance(site.scaling, np.ndarray) else site.scaling
    return replace(site, down=_map_tensors(site.down), up=_map_tensors(site.up), scaling=scaling)


def magnitude(p: ProjectionParameters, added: float = 0.0) -> ProjectionParameters:
    """The projection with |tensor| + added for each tensor."""
    return _map_tensors(p, added, absolute=True)


def _map_tensors(p: ProjectionParameters, added: float = 0.0, *, absolute: bool = False) -> ProjectionParameters:
    changes: dict[str, Any] = {}
    for field in fields(p):
        tensor = getattr(p, field.name)
        if isinstance(tensor, np.ndarray):
            wide = tensor.astype(np.float64)
            changes[field.name] = np.abs(wide) + added if absolute else wide
    return replace(p, **changes)


def sizes(p: ProjectionParameters) -> tuple[int, int, int, int]:
    """(in, out, n, r) of a projection; n = 1 without a rule, r = 1 without a rank."""
    fast = fast_weight(p)
    n = fast.shape[0] if p.kind.has_rule else 1
    rank = 1 if p.W_left is None else p.W_left.shape[-1]
    return n * fast.shape[-2], n * fast.shape[-1], n, rank


def rounding_counts(p: ProjectionParameters) -> tuple[int, int]:
    """How many stored results and partial sums stand, at worst, between the tensors and an element of x W + b.

                 stored          partial sums
        dense    3               in
        low_rank 4               in + r
        phm      n + 3 (+ 1)     in + n
        lphm     n + 4 (+ 1)     the larger of in + n r + n + r and in/n + n^2 r + n + r

    Stored: the result, its sum with b, and a weight into which a scaling was folded (3). Multiplied out, W adds s t,
    its product with A_i and n - 1 partial sums over i; (+ 1) is left right. Applied factor by factor, x s, its product
    with A and n - 1 partial sums over i are no more. Partial sums: W multiplied out has r (in s t), then in; x s A t
    and x A s t have in/n, n and n r terms; x A W_i has n and in, with r for W_i = s t; and with A t multiplied out
    first, x s has in/n terms and (x s)(A t) has n^2 r.
    """
    n_in, _, n, r = sizes(p)
    factored_rule = int(p.phm_rule_right is not None)
    match p.kind:
        case ProjectionKind.DENSE:
            counts = 3, n_in
        case ProjectionKind.LOW_RANK:
            counts = 4, n_in + r
        case ProjectionKind.PHM:
            counts = n + 3 + factored_rule, n_in + n
        case ProjectionKind.LPHM:
            counts = n + 4 + factored_rule, max(n_in + n * r, n_in // n + n * n * r) + n + r
    return counts


def affine_error(p: ProjectionParameters, x: Array, input_error: Array | float, precision: Precision) -> Array:
    """Bound of the error of x W + b, given an input that is off by at most E_in (NUM-4).

        E = G ((|x| + E_in) W' + |b|) + E_in W' + underflow,    G = (1 + u_s)^P (1 + u_a)^K - 1,

    with P and K from `rounding_counts`. The wrong part of the input passes the same roundings, so G applies to it too.

    Args:
        p: the projection, float64.
        x: [..., in], float64.
        input_error: E_in, [..., in] or a number.
        precision: of the implementation.

    Returns:
        [..., out]
    """
    stored, accumulated = rounding_counts(p)
    G = precision.growth(stored, accumulated)
    p = magnitude(p)
    E_in = np.broadcast_to(np.asarray(input_error, dtype=np.float64), x.shape)
    X = np.abs(x) + E_in
    unit = precision.eta_s + 2 * accumulated * precision.eta_a
    bound: Array = G * project(p, X) + E_in @ weight(p) + (1 + G) * unit * _underflow_paths(p, X)
    return bound


def _underflow_paths(p: ProjectionParameters, X: Array) -> Array:
    """What underflows are multiplied with until they reach the result, summed over the places where they can occur.

    Each stored result can be off by eta, and what it is multiplied with afterwards is the product of the factors it
    does not contain yet. Stored results and those factors, for the orders of evaluation that are in use:

        s t -> |x| |A|;   A (s t) and its partial sums -> 2 n |x|;   x s -> |A| |t|;   x s A or x A s -> |t|;
        x A -> |s| |t| (or |W_i|);   left right -> |x| |s t|;   x left -> |right| |s t|;   the result's sums -> 2 n + 2.

    Args:
        p: absolute values of a projection.
        X: absolute values of the input.
    """
    if not p.kind.has_rule:
        if p.W_right is None:
            return np.full((*X.shape[:-1], fast_weight(p).shape[1]), 2.0)
        low_rank: Array = X.sum(axis=-1, keepdims=True) + p.W_right.sum(axis=0) + 2.0
        return low_rank
    A, fast = rule(p), fast_weight(p)
    n, rows, columns = fast.shape
    blocks = X.reshape(*X.shape[:-1], n, rows).sum(axis=-1)
    by_block = np.einsum("...a,iab->...b", blocks, A) + 2 * n * blocks.sum(axis=-1, keepdims=True)
    products = fast.sum(axis=(0, 1))
    by_column = products if p.W_right is None else products + 2 * p.W_right.sum(axis=(0, 1))
    after_rule = fast.sum(axis=1) if p.W_right is None else p.W_right.sum(axis=1)
    paths: Array = by_block[..., :, None] + by_column + np.einsum("iab,ij->bj", A, after_rule) + 2 * n + 2
    if p.phm_rule_right is not None:
        inner = np.einsum("...ap,ipj->...j", X.reshape(*X.shape[:-1], n, rows), fast)
        paths = paths + inner[..., None, :] + np.einsum("ib,ij->bj", p.phm_rule_right[:, 0, :], fast.sum(axis=1))
    return paths.reshape(*X.shape[:-1], n * columns)


def activation_error(kind: Activation, z: Array, E_z: Array, precision: Precision) -> Array:
    """Bound of the error of act(z), given z off by at most E_z (NUM-5).

        E_a = L E_z + 10 u_s (|z| + E_z) + eta (4 + 2 (|z| + E_z)),    L = max |act'|; relu, identity: E_z.

    L E_z is the mean value theorem. The rest is the evaluation, with every operation rounded and with exp, tanh and erf
    accurate to 4 units in the last place (8 u). gelu_new: the argument w has relative error 7 u, which moves tanh by at
    most 7 u max(w / cosh^2 w) = 3.2 u; with its own 8 u and the sum's 2 u, halved and times |z|, and two more products:
    (13.2 / 2 + 2) u |z| = 8.6 u |z|. gelu: erf moves by 2 u max(w erf' w) = 1 u: 7.5 u |z|. silu: 8 u through exp,
    twice u, one product: at most 11 u |silu| <= 7 u |z|. tanh: 9 u |tanh z|. Second-order terms fit the difference to
    10.
    """
    if kind in _EXACT:
        return E_z
    magnitude_z = np.abs(z) + E_z
    bound: Array = _LIPSCHITZ[kind] * E_z + 10 * precision.u_s * magnitude_z + precision.eta_s * (4 + 2 * magnitude_z)
    return bound


def scaling_error(scaling: float | Array, o: Array, E_o: Array, precision: Precision) -> Array:
    """Bound of the error of scaling * o, given o off by at most E_o (NUM-6).

    The scaling itself may have to be rounded to storage, and the product is: two roundings, |s| (E_o + G_2 (|o| +
    E_o)), and the underflow of both, eta (|o| + E_o + 1).
    """
    magnitude_o = np.abs(o) + E_o
    rounding = np.abs(scaling) * (E_o + precision.growth(2) * magnitude_o)
    bound: Array = rounding + precision.eta_s * (magnitude_o + 1)
    return bound


def trace(site: SiteParameters, x: Array) -> tuple[Array, Array, Array]:
    """(z, a, o) of a site: x Wd + bd, act(z), a Wu + bu."""
    z = project(site.down, x)
    a = activate(site.non_linearity, z)
    return z, a, project(site.up, a)
