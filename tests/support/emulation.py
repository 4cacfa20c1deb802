"""Implementations of the adapter in any storage and accumulation type, every operation rounded, in several orders.

They stand for the back ends that the error bounds must admit: weights multiplied out or applied factor by factor, sums
taken one term at a time in the accumulation type, every result stored in the storage type.
"""

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from compacter_core.adapter import Array, DType, ProjectionParameters, SiteParameters
from compacter_core.reference.adapter import Gradients
from compacter_core.vocabulary import ProjectionKind
from tests.support.arithmetic import Arithmetic, activation, activation_derivative, contract
from tests.support.arrays import round_to
from tests.support.site_tools import tensors_of, with_tensors


class Order(Enum):
    """How a projection is evaluated."""

    MULTIPLIED_OUT = "W first"
    FACTORED = "x s A t, or x A W"


@dataclass(frozen=True)
class EmulatedProjection:
    """x W + b and its gradients; x is [tokens, in]."""

    p: ProjectionParameters
    arithmetic: Arithmetic
    order: Order

    def forward(self, x: Array) -> Array:
        y = contract(self.arithmetic, "tu,uv->tv", x, self._weight()) if self._whole else self._factored(x)
        return y if self.p.b is None else self.arithmetic.store(y + self.p.b)

    def vjp(self, x: Array, g: Array) -> tuple[Array, dict[str, Array]]:
        dx, gradients = self._whole_vjp(x, g) if self._whole else self._factored_vjp(x, g)
        if self.p.b is not None:
            gradients["b"] = self._contract("t,tv->v", np.ones(len(g)), g)
        return dx, gradients

    @property
    def _whole(self) -> bool:
        return self.order is Order.MULTIPLIED_OUT or self.p.kind is ProjectionKind.DENSE

    def _contract(self, letters: str, left: Array | None, right: Array | None) -> Array:
        assert left is not None
        assert right is not None
        return contract(self.arithmetic, letters, left, right)

    def _rule(self) -> Array:
        if self.p.phm_rule is not None:
            return self.p.phm_rule
        return self._contract("iaz,izb->iab", self.p.phm_rule_left, self.p.phm_rule_right)

    def _fast(self) -> Array:
        if self.p.W is not None:
            return self.p.W
        letters = "ipr,irj->ipj" if self.p.kind.has_rule else "pr,rj->pj"
        return self._contract(letters, self.p.W_left, self.p.W_right)

    def _weight(self) -> Array:
        fast = self._fast()
        if not self.p.kind.has_rule:
            return fast
        summands = self._contract("iab,ipj->iapbj", self._rule(), fast)
        n, _, rows, _, columns = summands.shape
        total: Array = summands[0]
        for i in range(1, n):
            total = self.arithmetic.store(total + summands[i])
        return total.reshape(n * rows, n * columns)

    def _factored(self, x: Array) -> Array:
        if self.p.kind is ProjectionKind.LOW_RANK:
            return self._contract("tr,rj->tj", self._contract("tp,pr->tr", x, self.p.W_left), self.p.W_right)
        blocks = _blocks(x, self._rule())
        if self.p.kind is ProjectionKind.PHM:
            mixed = self._contract("tap,iab->tibp", blocks, self._rule())
            return _joined(self._contract("tibp,ipj->tbj", mixed, self.p.W))
        inner = self._contract("tap,ipr->tiar", blocks, self.p.W_left)
        mixed = self._contract("tiar,iab->tibr", inner, self._rule())
        return _joined(self._contract("tibr,irj->tbj", mixed, self.p.W_right))

    def _whole_vjp(self, x: Array, g: Array) -> tuple[Array, dict[str, Array]]:
        dx = self._contract("tv,uv->tu", g, self._weight())
        M = self._contract("tu,tv->uv", x, g)
        if not self.p.kind.has_rule:
            return dx, self._fast_vjp(M, "")
        fast, A = self._fast(), self._rule()
        n, rows, columns = fast.shape
        blocks = M.reshape(n, rows, n, columns)
        d_rule = self._contract("apbj,ipj->iab", blocks, fast)
        d_fast = self._contract("apbj,iab->ipj", blocks, A)
        return dx, self._rule_vjp(d_rule) | self._fast_vjp(d_fast, "i")

    def _fast_vjp(self, d_fast: Array, i: str) -> dict[str, Array]:
        if self.p.W is not None:
            return {"W": d_fast}
        return {
            "W_left": self._contract(f"{i}pj,{i}rj->{i}pr", d_fast, self.p.W_right),
            "W_right": self._contract(f"{i}pr,{i}pj->{i}rj", self.p.W_left, d_fast),
        }

    def _rule_vjp(self, d_rule: Array) -> dict[str, Array]:
        if self.p.phm_rule is not None:
            return {"phm_rule": d_rule}
        return {
            "phm_rule_left": self._contract("iab,izb->iaz", d_rule, self.p.phm_rule_right),
            "phm_rule_right": self._contract("iaz,iab->izb", self.p.phm_rule_left, d_rule),
        }

    def _factored_vjp(self, x: Array, g: Array) -> tuple[Array, dict[str, Array]]:
        s, t = self.p.W_left, self.p.W_right
        if self.p.kind is ProjectionKind.LOW_RANK:
            inner, d_inner = self._contract("tp,pr->tr", x, s), self._contract("tj,rj->tr", g, t)
            dx = self._contract("tr,pr->tp", d_inner, s)
            gradients = {
                "W_left": self._contract("tp,tr->pr", x, d_inner),
                "W_right": self._contract("tr,tj->rj", inner, g),
            }
            return dx, gradients
        A = self._rule()
        x_blocks, g_blocks = _blocks(x, A), _blocks(g, A)
        if self.p.kind is ProjectionKind.PHM:
            mixed = self._contract("tap,iab->tibp", x_blocks, A)
            d_mixed = self._contract("tbj,ipj->tibp", g_blocks, self.p.W)
            d_rule = self._contract("tap,tibp->iab", x_blocks, d_mixed)
            dx = self._contract("tibp,iab->tap", d_mixed, A)
            gradients = {"W": self._contract("tibp,tbj->ipj", mixed, g_blocks)}
        else:
            inner = self._contract("tap,ipr->tiar", x_blocks, s)
            mixed = self._contract("tiar,iab->tibr", inner, A)
            d_mixed = self._contract("tbj,irj->tibr", g_blocks, t)
            d_inner = self._contract("tibr,iab->tiar", d_mixed, A)
            d_rule = self._contract("tiar,tibr->iab", inner, d_mixed)
            dx = self._contract("tiar,ipr->tap", d_inner, s)
            gradients = {
                "W_left": self._contract("tap,tiar->ipr", x_blocks, d_inner),
                "W_right": self._contract("tibr,tbj->irj", mixed, g_blocks),
            }
        return dx.reshape(x.shape), gradients | self._rule_vjp(d_rule)


@dataclass(frozen=True)
class EmulatedAdapter:
    """delta, forward and gradients of a site, for x [tokens, d]."""

    site: SiteParameters
    arithmetic: Arithmetic
    order: Order

    def delta(self, x: Array) -> Array:
        return self.arithmetic.store(self._scaling * self._unscaled(x))

    def forward(self, x: Array, skip: Array) -> Array:
        return self.arithmetic.store(skip + self.delta(x))

    def vjp(self, x: Array, g: Array) -> Gradients:
        store = self.arithmetic.store
        z = self._down.forward(x)
        a = activation(self.arithmetic, self.site.non_linearity, z)
        da, up = self._up.vjp(a, store(self._scaling * g))
        slope = activation_derivative(self.arithmetic, self.site.non_linearity, z)
        dx, down = self._down.vjp(x, store(da * slope))
        return Gradients(dx=dx, down=down, up=up, scaling=self._scaling_gradient(g, self._up.forward(a)))

    @property
    def _scaling(self) -> Array:
        return self.arithmetic.store(np.asarray(self.site.scaling, dtype=np.float64))

    @property
    def _down(self) -> EmulatedProjection:
        return EmulatedProjection(self.site.down, self.arithmetic, self.order)

    @property
    def _up(self) -> EmulatedProjection:
        return EmulatedProjection(self.site.up, self.arithmetic, self.order)

    def _unscaled(self, x: Array) -> Array:
        return self._up.forward(activation(self.arithmetic, self.site.non_linearity, self._down.forward(x)))

    def _scaling_gradient(self, g: Array, o: Array) -> Array | None:
        if not isinstance(self.site.scaling, np.ndarray):
            return None
        if self.site.scaling.shape == o.shape[-1:]:
            return contract(self.arithmetic, "tu,tu->u", g, o)
        return contract(self.arithmetic, "tu,tu->", g, o).reshape(1)


def folded(site: SiteParameters, m: Array, arithmetic: Arithmetic, constants: tuple[Array, ...]) -> Array:
    """M + (act(m Wd + cd) Wu + cu), with the constants (Wd, cd, Wu, cu) stored as given."""
    Wd, cd, Wu, cu = (arithmetic.store(constant) for constant in constants)
    z = arithmetic.store(contract(arithmetic, "tu,uv->tv", m, Wd) + cd)
    a = activation(arithmetic, site.non_linearity, z)
    return arithmetic.store(m + arithmetic.store(contract(arithmetic, "tu,uv->tv", a, Wu) + cu))


def layer_norm(arithmetic: Arithmetic, x: Array, gain: Array, bias: Array, eps: float, *, two_pass: bool) -> Array:
    """Layer normalisation, with the variance as mean (x - mu)^2 or as mean x^2 - mu^2; x is [tokens, d]."""
    store, ones, d = arithmetic.store, np.ones(x.shape[-1]), x.shape[-1]
    mean = store(contract(arithmetic, "tu,u->t", x, ones) / d)[:, None]
    centred = store(x - mean)
    spread = centred if two_pass else x
    variance = store(contract(arithmetic, "tu,tu->t", spread, spread) / d)[:, None]
    if not two_pass:
        variance = store(variance - store(mean * mean))
    inverse = store(1 / store(np.sqrt(store(variance + store(np.asarray(eps))))))
    return store(store(store(centred * inverse) * gain) + bias)


def rounded_site(site: SiteParameters, dtype: DType) -> SiteParameters:
    """The site with its tensors as float64, which hold the values of `dtype` exactly."""
    scaling = round_to(site.scaling, dtype).astype(np.float64) if isinstance(site.scaling, np.ndarray) else site.scaling
    return replace(site, down=_rounded(site.down, dtype), up=_rounded(site.up, dtype), scaling=scaling)


def _rounded(p: ProjectionParameters, dtype: DType) -> ProjectionParameters:
    return with_tensors(p, {name: round_to(t, dtype).astype(np.float64) for name, t in tensors_of(p).items()})


def _blocks(x: Array, A: Array) -> Array:
    return x.reshape(len(x), len(A), x.shape[1] // len(A))


def _joined(blocks: Array) -> Array:
    return blocks.reshape(len(blocks), blocks.shape[1] * blocks.shape[2])
