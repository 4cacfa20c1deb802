"""A right implementation in parts that a mutant can replace one by one: the reference in float64."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compacter_core.adapter import Adapter, Array, ProjectionParameters, SiteParameters
from compacter_core.config import AdapterConfig, Attach
from compacter_core.conformance.implementations.answering import stacked
from compacter_core.layout import Side, count_parameters, projection_names, scaling_name
from compacter_core.reference.activations import activate, derivative
from compacter_core.reference.adapter import Gradients, delta, scaling_vjp
from compacter_core.reference.initialise import initialise
from compacter_core.reference.placement import Norm, sublayer
from compacter_core.reference.projection import project, project_vjp
from compacter_core.reference.rounding import float64_site
from compacter_core.vocabulary import Activation


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """What one use of a tensor adds to its gradient.

    Args:
        name: of the tensor in the file, or `x.<site>`.
        site: the place in the list of sites.
        side: of the projection; None for inputs and scalings.
        value: the gradient.
    """

    name: str
    site: int
    side: Side | None
    value: Array


class Numerics:
    """Everything that a case with numbers, an initialisation or a count asks; the defaults are right."""

    def site(self, adapter: Adapter, site_id: str) -> SiteParameters:
        """The tensors of a site, float64."""
        return float64_site(adapter.site(site_id))

    def delta(self, site: SiteParameters, x: Array) -> Array:
        """What the adapter adds."""
        return delta(site, x)

    def forward(self, site: SiteParameters, x: Array, skip: Array) -> Array:
        """The output y."""
        return skip + self.delta(site, x)

    def vjp(self, site: SiteParameters, x: Array, g: Array) -> Gradients:
        """Gradients of sum(g * delta(x)), by the chain rule."""
        z = project(site.down, x)
        a = activate(site.non_linearity, z)
        da, up = self.project_vjp(site.up, a, self.scaled(site, g))
        dx, down = self.project_vjp(site.down, x, da * self.slope(site.non_linearity, z))
        return Gradients(dx=dx, down=down, up=up, scaling=self.scaling_vjp(site, g, project(site.up, a)))

    def project_vjp(self, p: ProjectionParameters, x: Array, g: Array) -> tuple[Array, dict[str, Array]]:
        """Gradients of a projection."""
        return project_vjp(p, x, g)

    def scaled(self, site: SiteParameters, g: Array) -> Array:
        """The cotangent of the adapter's output before scaling."""
        scaled: Array = site.scaling * g
        return scaled

    def slope(self, kind: Activation, z: Array) -> Array:
        """The derivative of the activation."""
        return derivative(kind, z)

    def scaling_vjp(self, site: SiteParameters, g: Array, o: Array) -> Array | None:
        """The gradient of a trained scaling; o is the output before scaling."""
        return scaling_vjp(site, g * o)

    def attach(self, config: AdapterConfig, site_id: str) -> Attach:
        """The placement at a site."""
        return config.attach_of(config.site(site_id))

    def sublayer(self, attach: Attach, site: SiteParameters, r: Array, h: Array, norm: Norm) -> Array:
        """The sublayer's result."""
        return sublayer(attach, site, r, h, norm)

    def gradient(
        self, adapter: Adapter, sites: Sequence[str], x: Mapping[str, Array], g: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Gradients of the sum over sites, by name."""
        total: dict[str, Array] = {}
        for share in self.shares(adapter, sites, x, g):
            total[share.name] = total[share.name] + share.value if share.name in total else share.value
        return total

    def shares(
        self, adapter: Adapter, sites: Sequence[str], x: Mapping[str, Array], g: Mapping[str, Array]
    ) -> list[Share]:
        """What is summed to the gradients."""
        found = []
        for index, site_id in enumerate(sites):
            site = adapter.config.site(site_id)
            gradients = self.vjp(self.site(adapter, site_id), x[site_id], g[site_id])
            found.append(Share(f"x.{site_id}", index, None, gradients.dx))
            for side, tensors in ((Side.DOWN, gradients.down), (Side.UP, gradients.up)):
                names = projection_names(adapter.config, site, side).tensors
                found += [Share(names[short], index, side, value) for short, value in tensors.items()]
            if gradients.scaling is not None:
                found.append(Share(scaling_name(site), index, None, gradients.scaling))
        return found

    def initialise(self, config: AdapterConfig, seed: int, draws: int) -> dict[str, Array]:
        """Initial tensors, each with a leading axis of draws."""
        generator = self.generator(seed)
        drawn = [self.draw(config, generator) for _ in range(draws)]
        return stacked(drawn)

    def generator(self, seed: int) -> np.random.Generator:
        """The source of initial values."""
        return np.random.default_rng(seed)

    def draw(self, config: AdapterConfig, generator: np.random.Generator) -> dict[str, Array]:
        """One draw of all tensors."""
        return initialise(config, generator)

    def count(self, config: AdapterConfig) -> int:
        """The number of parameters."""
        return count_parameters(config)
