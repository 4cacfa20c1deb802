"""How many parameters an adapter has, from formulas written down by hand (paper, section 3.4).

For S sites of bottlenecks k_1 to k_S, with K their sum:

    rules       n^3 each, 2 n^2 in factors; one if shared, else two for each site
    weights     dense 2 d k, low_rank and lphm 2 r (d + k), phm 2 d k / n; for each site, once if shared
    biases      K down, S d up
    scalings    S if learned, S d by channel
"""

from collections.abc import Sequence
from dataclasses import dataclass

from compacter_core.vocabulary import ProjectionKind, ScalingKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What decides the number of parameters.

    Args:
        kind: of the projections.
        d: hidden size.
        k: bottleneck of each site.
        n: dimension of the Kronecker sums.
        r: rank.
        shared_rule: whether there is one rule.
        factored_rule: whether rules are in factors.
        shared_W: whether all sites share the weights.
        bias_down: whether there is a bd.
        bias_up: whether there is a bu.
        scaling: the kind of a trained scaling.
    """

    kind: ProjectionKind
    d: int
    k: Sequence[int]
    n: int = 1
    r: int = 1
    shared_rule: bool = False
    factored_rule: bool = False
    shared_W: bool = False
    bias_down: bool = True
    bias_up: bool = True
    scaling: ScalingKind | None = None

    @property
    def parameters(self) -> int:
        """The number of scalars, each shared one once (FWD-23)."""
        sites = len(self.k)
        biases = self.bias_down * sum(self.k) + self.bias_up * sites * self.d
        by_site = {None: 0, ScalingKind.LEARNED: 1, ScalingKind.CHANNEL: self.d}[self.scaling]
        weights = sum(map(self._weights, self.k[:1] if self.shared_W else self.k))
        return self._rules(sites) + weights + biases + sites * by_site

    def _rules(self, sites: int) -> int:
        if not self.kind.has_rule:
            return 0
        one = 2 * self.n**2 if self.factored_rule else self.n**3
        return one if self.shared_rule else 2 * sites * one

    def _weights(self, k: int) -> int:
        match self.kind:
            case ProjectionKind.DENSE:
                count = 2 * self.d * k
            case ProjectionKind.PHM:
                count = 2 * self.d * k // self.n
            case ProjectionKind.LOW_RANK | ProjectionKind.LPHM:
                count = 2 * self.r * (self.d + k)
        return count
