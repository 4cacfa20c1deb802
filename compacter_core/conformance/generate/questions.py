"""Cases with numbers, before they become files: inputs, exact answers, bounds, and what a mutant would answer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from compacter_core.adapter import Adapter, Array
from compacter_core.conformance.exact import adapter as exact_adapter
from compacter_core.conformance.exact import sites as exact_sites
from compacter_core.conformance.exact.numbers import added, exact, rounded, rows
from compacter_core.conformance.generate.bounds import Pair, gradient_bounds, sublayer_bound
from compacter_core.conformance.generate.draw import absolute_adapter, magnitude
from compacter_core.conformance.mutation.numerics import Numerics
from compacter_core.conformance.words import Op
from compacter_core.layout import adapter_layout
from compacter_core.reference.bounds import delta_bound, forward_bound
from compacter_core.reference.rounding import float64_site

Tensors = dict[str, Array]


class Question(Protocol):
    """One case with numbers. Tensors are float64."""

    @property
    def op(self) -> Op:
        """What is asked."""

    @property
    def adapter(self) -> Adapter:
        """The adapter."""

    @property
    def args(self) -> Mapping[str, object]:
        """The case's arguments."""

    def inputs(self) -> Tensors:
        """The input file."""

    def expected(self) -> Tensors:
        """The exact answer, rounded once."""

    def bounds(self, pair: Pair) -> Tensors:
        """How far an implementation with these types may be off."""

    def answer(self, numerics: Numerics) -> Tensors:
        """What an implementation answers."""

    def absolute(self) -> Self:
        """The question of the magnitudes of everything, which bounds every sum on the way to the answer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forward:
    """delta and y of one site. NaNs are allowed in x: the exact answer is a NaN in their rows."""

    adapter: Adapter
    site: str
    x: Array
    skip: Array
    outputs: tuple[str, ...] = ("delta", "y")

    @property
    def op(self) -> Op:
        """The operation `forward`."""
        return Op.FORWARD

    @property
    def args(self) -> Mapping[str, object]:
        """Site and outputs."""
        return {"site": self.site, "outputs": list(self.outputs)}

    def inputs(self) -> Tensors:
        """Both inputs."""
        return {"x": self.x, "skip": self.skip}

    def expected(self) -> Tensors:
        """The exact answer, NaN in the rows that have one."""
        site = self.adapter.site(self.site)
        x = rows(self._finite())
        delta = exact_adapter.delta(site, x)
        values = {"delta": delta, "y": added(rows(self.skip), delta)}
        lost = np.isnan(self.x).any(axis=-1, keepdims=True)
        return {name: np.where(lost, np.nan, rounded(values[name], self.x.shape)) for name in self.outputs}

    def bounds(self, pair: Pair) -> Tensors:
        """By forward error analysis; 0 in the rows of NaNs."""
        site, x = self.adapter.site(self.site), self._finite()
        found = {
            "delta": delta_bound(site, x, storage=pair[0], accumulate=pair[1]),
            "y": forward_bound(site, x, self.skip, storage=pair[0], accumulate=pair[1]),
        }
        lost = np.isnan(self.x).any(axis=-1, keepdims=True)
        return {name: np.where(lost, 0.0, found[name]) for name in self.outputs}

    def answer(self, numerics: Numerics) -> Tensors:
        """What an implementation answers."""
        site = numerics.site(self.adapter, self.site)
        found = {"delta": numerics.delta(site, self.x), "y": numerics.forward(site, self.x, self.skip)}
        return {name: found[name] for name in self.outputs}

    def absolute(self) -> Self:
        """The question of magnitudes."""
        adapter = absolute_adapter(self.adapter)
        return replace(self, adapter=adapter, x=magnitude(self.x), skip=magnitude(self.skip), outputs=("delta", "y"))

    def _finite(self) -> Array:
        """The input with zeros in the rows of NaNs, which other rows do not see."""
        return np.where(np.isnan(self.x).any(axis=-1, keepdims=True), 0.0, self.x)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gradient:
    """Gradients over some sites."""

    adapter: Adapter
    x: Mapping[str, Array]
    g: Mapping[str, Array]

    @property
    def op(self) -> Op:
        """The operation `gradient`."""
        return Op.GRADIENT

    @property
    def args(self) -> Mapping[str, object]:
        """The sites."""
        return {"sites": list(self.x)}

    def inputs(self) -> Tensors:
        """X and g of each site."""
        return {f"x.{site}": x for site, x in self.x.items()} | {f"g.{site}": g for site, g in self.g.items()}

    def expected(self) -> Tensors:
        """The exact gradients."""
        x = {site: rows(values) for site, values in self.x.items()}
        g = {site: rows(values) for site, values in self.g.items()}
        shapes = dict(adapter_layout(self.adapter.config)) | {f"x.{site}": x.shape for site, x in self.x.items()}
        found = exact_sites.gradients(self.adapter, list(self.x), x, g)
        return {name: rounded(values, shapes[name]) for name, values in found.items()}

    def bounds(self, pair: Pair) -> Tensors:
        """By forward error analysis."""
        return gradient_bounds(self.adapter, list(self.x), self.x, self.g, pair)

    def answer(self, numerics: Numerics) -> Tensors:
        """What an implementation answers."""
        return numerics.gradient(self.adapter, list(self.x), self.x, self.g)

    def absolute(self) -> Self:
        """The question of magnitudes."""
        return replace(
            self,
            adapter=absolute_adapter(self.adapter),
            x={site: magnitude(x) for site, x in self.x.items()},
            g={site: magnitude(g) for site, g in self.g.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sublayer:
    """The result of a sublayer with an adapter in it."""

    adapter: Adapter
    site: str
    r: Array
    h: Array
    gain: Array
    offset: Array

    @property
    def op(self) -> Op:
        """The operation `sublayer`."""
        return Op.SUBLAYER

    @property
    def args(self) -> Mapping[str, object]:
        """The site."""
        return {"site": self.site}

    def inputs(self) -> Tensors:
        """r, h and the norm."""
        return {"r": self.r, "h": self.h, "gain": self.gain, "offset": self.offset}

    def expected(self) -> Tensors:
        """The exact result."""
        attach = self.adapter.config.attach_of(self.adapter.config.site(self.site))
        result = exact_adapter.sublayer(
            attach,
            self.adapter.site(self.site),
            rows(self.r),
            rows(self.h),
            gain=exact(self.gain),
            offset=exact(self.offset),
        )
        return {"result": rounded(result, self.r.shape)}

    def bounds(self, pair: Pair) -> Tensors:
        """By forward error analysis."""
        attach = self.adapter.config.attach_of(self.adapter.config.site(self.site))
        site = float64_site(self.adapter.site(self.site))
        return {"result": sublayer_bound(attach, site, self.r, self.h, gain=self.gain, offset=self.offset, pair=pair)}

    def answer(self, numerics: Numerics) -> Tensors:
        """What an implementation answers."""
        attach = numerics.attach(self.adapter.config, self.site)
        site = numerics.site(self.adapter, self.site)
        result = numerics.sublayer(attach, site, self.r, self.h, lambda v: self.gain * v + self.offset)
        return {"result": result}

    def absolute(self) -> Self:
        """The question of magnitudes."""
        return replace(
            self,
            adapter=absolute_adapter(self.adapter),
            r=magnitude(self.r),
            h=magnitude(self.h),
            gain=magnitude(self.gain),
            offset=magnitude(self.offset),
        )
