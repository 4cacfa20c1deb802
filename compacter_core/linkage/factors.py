"""A site's projections in factors, as calls of functions take them: what a Compacter has, not multiplied out.

Both weights, as [k, d], are products of a small matrix and a narrow one. With d split into n blocks of m places,

    Wd[(a, p), j] = sum_i M_d[j, a, i] P_d[i, p],        Wu'[j, (b, p)] = sum_i M_u[j, b, i] P_u[i, p].

The w columns i of M are for the letters of the reference (`reference.projection`), with j = (b, q) or (a, q) and one
column for each summand and rank:

    lphm        M_d = A_i[a, b] t_i[r, q],      P_d = s_i[p, r],       M_u = A_i[a, b] s_i[q, r],     P_u = t_i[r, p]
    low_rank    n = 1: M_d = t[r, j],           P_d = s[p, r],         M_u = s[j, r],                 P_u = t[r, p]
    phm         one for each i and q': M_d = A_i[a, b] [q = q'],       P_d = W_i[p, q'], and the other way round
    dense       n = 1: M_d = [j = i],           P_d = W[p, i],         M_u = [j = i],                 P_u = W[i, p]

A scaling is in P_u; where it differs by channel and n > 1, P_u has a copy of its rows for each block. A projection
takes d w + k n w products for each token, its weight multiplied out d k.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from compacter_core.adapter import Array, ProjectionParameters, SiteParameters
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.reference.projection import rule
from compacter_core.reference.rounding import float64_site
from compacter_core.vocabulary import ProjectionKind


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """The projections of a site, in float64.

    Args:
        Md: M_d, [k, n, w].
        Pd: P_d, [w, m].
        Mu: M_u, [k, n, w'].
        Pu: P_u with the scaling in it, [w', m].
    """

    Md: Array
    Pd: Array
    Mu: Array
    Pu: Array

    @classmethod
    def of(cls, site: SiteParameters) -> Self:
        """Those of a site."""
        site = float64_site(site)
        (Md, Pd), (Mu, Pu) = _down(site.down), _up(site.up)
        return cls(Md, Pd, *_scaled(Mu, Pu, np.asarray(site.scaling, np.float64)))

    @property
    def are_fewer(self) -> bool:
        """Whether a token takes fewer products with them than with the weights."""
        k, n, _ = self.Md.shape
        d = n * self.Pd.shape[1]
        return (d + k * n) * (len(self.Pd) + len(self.Pu)) < 2 * d * k


def _down(p: ProjectionParameters) -> tuple[Array, Array]:
    match p.kind:
        case ProjectionKind.LPHM:
            s, t = _both(p)
            M = np.einsum("iab,irq->bqair", rule(p), t)
            return _joined(M), s.transpose(0, 2, 1).reshape(-1, s.shape[1])
        case ProjectionKind.LOW_RANK:
            s, t = _both(p)
            return t.T[:, np.newaxis], s.T
        case ProjectionKind.PHM:
            W = _whole(p)
            M = np.einsum("iab,qc->bqaic", rule(p), np.eye(W.shape[2]))
            return _joined(M), W.transpose(0, 2, 1).reshape(-1, W.shape[1])
        case ProjectionKind.DENSE:
            W = _whole(p)
            return np.eye(W.shape[1])[:, np.newaxis], W.T


def _up(p: ProjectionParameters) -> tuple[Array, Array]:
    match p.kind:
        case ProjectionKind.LPHM:
            s, t = _both(p)
            M = np.einsum("iab,iqr->aqbir", rule(p), s)
            return _joined(M), t.reshape(-1, t.shape[2])
        case ProjectionKind.LOW_RANK:
            s, t = _both(p)
            return s[:, np.newaxis], t
        case ProjectionKind.PHM:
            W = _whole(p)
            M = np.einsum("iab,qc->aqbic", rule(p), np.eye(W.shape[1]))
            return _joined(M), W.reshape(-1, W.shape[2])
        case ProjectionKind.DENSE:
            W = _whole(p)
            return np.eye(W.shape[0])[:, np.newaxis], W


def _joined(M: Array) -> Array:
    """[block, q, n, i, r] as [k, n, w]."""
    blocks, q, n, summands, r = M.shape
    return M.reshape(blocks * q, n, summands * r)


def _scaled(M: Array, P: Array, scaling: Array) -> tuple[Array, Array]:
    """The factors of the weight whose columns are scaled."""
    k, n, w = M.shape
    if scaling.ndim == 0 or n == 1:
        return M, P * scaling
    copies = P * scaling.reshape(n, 1, -1)
    return np.einsum("jbi,bc->jbci", M, np.eye(n)).reshape(k, n, n * w), copies.reshape(n * w, -1)


def _both(p: ProjectionParameters) -> tuple[Array, Array]:
    """s and t.

    Raises:
        CompacterError: E301 if one is missing.
    """
    if p.W_left is None or p.W_right is None:
        raise CompacterError(ErrorCode.E301, f"a {p.kind.value} projection lacks W_left or W_right")
    return p.W_left, p.W_right


def _whole(p: ProjectionParameters) -> Array:
    """W.

    Raises:
        CompacterError: E301 if it is missing.
    """
    if p.W is None:
        raise CompacterError(ErrorCode.E301, f"a {p.kind.value} projection lacks W")
    return p.W
