"""A site's adapter as two dense projections, as graphs take it that multiply Kronecker sums out beforehand.

With W the weight of the sublayer's last linear, b its bias, a its input, m = a W and h = m + b, a graph whose adapter
adds to h may read m instead of h, and add before b: all fusions of the backbone are then kept, and an adapter of zeros
changes no bit. The bias of the down-projection carries what is missing:

    h Wd + bd = m Wd + (bd + b Wd).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from compacter_core.adapter import Array, SiteParameters
from compacter_core.reference.projection import project, weight
from compacter_core.reference.rounding import float64_site


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A site's adapter with its projections written out in float64, and the scaling moved into the second one.

    Args:
        Wd: [d, k].
        bd: [k] or None.
        Wu: scaling Wu, [k, d].
        bu: scaling bu, [d] or None.
    """

    Wd: Array
    bd: Array | None
    Wu: Array
    bu: Array | None

    @classmethod
    def of(cls, site: SiteParameters) -> Self:
        """The adapter of a site."""
        site = float64_site(site)
        bu = site.up.b
        return cls(
            Wd=weight(site.down),
            bd=site.down.b,
            Wu=weight(site.up) * site.scaling,
            bu=None if bu is None else bu * site.scaling,
        )


def bias_behind(site: SiteParameters, b: Array | None) -> Array:
    """The bias bd + b Wd of a down-projection that reads m = h - b, in float64, [k]; bd where b is None.

    Args:
        site: the adapter of the site.
        b: the bias of the site's linear, [d].
    """
    down = float64_site(site).down
    if b is None:
        return np.zeros(weight(down).shape[1]) if down.b is None else down.b
    return project(down, b.astype(np.float64))
