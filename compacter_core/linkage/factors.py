"""A site's projections in factors, as calls of functions take them: what a Compacter has, not multiplied out.

Both weights are products of a narrow matrix and a small one, with d split into n blocks of m places:

    Wd[(a, p), j] = sum_i left[p, i] mix_down[a, i, j],        Wu'[j, (b, p)] = sum_i mix_up[j, b, i] right[i, p].

In the letters of the reference (`reference.projection`), with j = (b, q) or (a, q), the w values of i are one for each

                i       left        mix_down                mix_up                  right
    lphm        i, r    s_i[p, r]   A_i[a, b] t_i[r, q]     A_i[a, b] s_i[q, r]     t_i[r, p]
    phm         i, c    W_i[p, c]   A_i[a, b] [q = c]       A_i[a, b] [q = c]       W_i[c, p]
    low_rank    r       s[p, r]     t[r, j]                 s[j, r]                 t[r, p]
    dense       c       W[p, c]     [j = c]                 [j = c]                 W[c, p]

with n = 1 in the last two. A scaling is in `right`; where it differs by channel and n > 1, that has a copy of its rows
for each block. A projection takes d w + k n w products for each token, its weight multiplied out d k.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from compacter_core.adapter import Array, ProjectionParameters, SiteParameters
from compacter_core.config import AdapterConfig
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.reference.projection import rule
from compacter_core.reference.rounding import float64_site
from compacter_core.vocabulary import ProjectionKind, ScalingKind


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """The projections of a site, in float64.

    Args:
        left: [m, w].
        mix_down: [n, w, k].
        mix_up: [k, n, w'].
        right: with the scaling in it, [w', m].
    """

    left: Array
    mix_down: Array
    mix_up: Array
    right: Array

    @classmethod
    def of(cls, site: SiteParameters) -> Self:
        """Those of a site."""
        site = float64_site(site)
        left, mix_down = _down(site.down)
        return cls(left, mix_down, *_scaled(*_up(site.up), np.asarray(site.scaling, np.float64)))

    @property
    def are_fewer(self) -> bool:
        """Whether a token takes fewer products with them than with the weights."""
        (m, w), (k, n, w_up) = self.left.shape, self.mix_up.shape
        return bool((n * m + k * n) * (w + w_up) < 2 * n * m * k)


def factor_shapes(config: AdapterConfig, k: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a site's `Factors`, by their names.

    Args:
        config: of the adapter.
        k: the site's bottleneck.
    """
    p, d = config.projection, config.hidden_size
    n = p.phm_dim or 1
    w = n * p.phm_rank if p.phm_rank is not None else k
    copies = n if config.scaling is ScalingKind.CHANNEL else 1
    return {
        "left": (d // n, w),
        "mix_down": (n, w, k),
        "mix_up": (k, n, w * copies),
        "right": (w * copies, d // n),
    }


def _down(p: ProjectionParameters) -> tuple[Array, Array]:
    """Left and mix_down."""
    match p.kind:
        case ProjectionKind.LPHM:
            s, t = _both(p)
            mix = np.einsum("iab,irq->airbq", rule(p), t)
            return s.transpose(1, 0, 2).reshape(s.shape[1], -1), _joined(mix)
        case ProjectionKind.PHM:
            W = _whole(p)
            mix = np.einsum("iab,cq->aicbq", rule(p), np.eye(W.shape[2]))
            return W.transpose(1, 0, 2).reshape(W.shape[1], -1), _joined(mix)
        case ProjectionKind.LOW_RANK:
            s, t = _both(p)
            return s, t[np.newaxis]
        case ProjectionKind.DENSE:
            W = _whole(p)
            return W, np.eye(W.shape[1])[np.newaxis]


def _up(p: ProjectionParameters) -> tuple[Array, Array]:
    """mix_up and right."""
    match p.kind:
        case ProjectionKind.LPHM:
            s, t = _both(p)
            mix = np.einsum("iab,iqr->airbq", rule(p).transpose(0, 2, 1), s)
            return _joined(mix).transpose(2, 0, 1), t.reshape(-1, t.shape[2])
        case ProjectionKind.PHM:
            W = _whole(p)
            mix = np.einsum("iab,qc->aicbq", rule(p).transpose(0, 2, 1), np.eye(W.shape[1]))
            return _joined(mix).transpose(2, 0, 1), W.reshape(-1, W.shape[2])
        case ProjectionKind.LOW_RANK:
            s, t = _both(p)
            return s[:, np.newaxis], t
        case ProjectionKind.DENSE:
            W = _whole(p)
            return np.eye(W.shape[0])[:, np.newaxis], W


def _joined(mix: Array) -> Array:
    """[n, i, r, block, q] as [n, w, k]."""
    n, summands, r, blocks, q = mix.shape
    return mix.reshape(n, summands * r, blocks * q)


def _scaled(mix: Array, right: Array, scaling: Array) -> tuple[Array, Array]:
    """mix_up and right of the weight whose columns are scaled."""
    k, n, w = mix.shape
    if scaling.size == 1 or n == 1:
        return mix, right * scaling
    copies = right * scaling.reshape(n, 1, -1)
    return np.einsum("jbi,bc->jbci", mix, np.eye(n)).reshape(k, n, n * w), copies.reshape(n * w, -1)


def _both(p: ProjectionParameters) -> tuple[Array, Array]:
    """S and t.

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
