"""The form column of y = h + delta(h), h = m + b: an adapter of m alone, whose up-projection adds b and its own bias.

    y = m + act(m Wd+ + c_d+) Wu+,    Wd+ = [Wd, 0],    c_d+ = [bd + b Wd, z],    Wu+ = [Wu'; (bu' + b) / act(z)]

where Wu' = scaling Wu and bu' = scaling bu.

Of the k + 1 columns between the projections the last is act(z), whatever m is (ONX-53, NUM-20).
"""

from typing import Final

import numpy as np

from compacter_core.adapter import Array, DType, ProjectionParameters, SiteParameters
from compacter_core.reference.activations import activate
from compacter_core.reference.bounds import fold_bound, forward_bound
from compacter_core.reference.projection import project, weight
from compacter_core.reference.rounding import float64_site
from compacter_core.vocabulary import Activation, ProjectionKind

AT: Final = 8.0
"""z: exact in every type, and no activation is more than a rounding of F32 away from its limit by far (ONX-53)."""


def activated(kind: Activation) -> float:
    """act(z), in float64."""
    return float(activate(kind, np.array([AT]))[0])


def with_column(site: SiteParameters, b: Array) -> SiteParameters:
    """The adapter of m, two dense projections in float64 without a last bias.

    Args:
        site: the adapter of h; its placement is input = skip = h.
        b: the bias of the site's linear, [d].
    """
    site, b = float64_site(site), b.astype(np.float64)
    c_u = b if site.up.b is None else b + site.up.b * site.scaling
    down = ProjectionParameters(
        kind=ProjectionKind.DENSE,
        W=np.hstack([weight(site.down), np.zeros((len(b), 1))]),
        b=np.append(project(site.down, b), AT),
    )
    rows = [weight(site.up) * site.scaling, c_u / activated(site.non_linearity)]
    up = ProjectionParameters(kind=ProjectionKind.DENSE, W=np.vstack(rows))
    return SiteParameters(down=down, up=up, non_linearity=site.non_linearity)


def column_bound(
    site: SiteParameters,
    m: Array,
    b: Array,
    *,
    storage: DType,
    accumulate: DType,
    input_error: Array | float = 0.0,
    bias_error: Array | float = 0.0,
) -> Array:
    """Bound for the form column of y = h + delta(h) (NUM-20): NUM-8 of what is computed, and NUM-14 in F64.

    Args:
        site: the adapter; its placement is input = skip = h.
        m: [..., d], as in the graph.
        b: the linear's bias, [d].
        storage: type of the graph's tensors.
        accumulate: type of sums.
        input_error: how far that m may be from the reference's.
        bias_error: how far that b may be from the reference's.

    Returns:
        float64 [..., d]
    """
    types = {"storage": storage, "accumulate": accumulate}
    plain = forward_bound(with_column(site, b), m, m, input_error=input_error, skip_error=input_error, **types)
    constants = fold_bound(site, m, b, storage=DType.F64, accumulate=DType.F64, input_error=bias_error)
    bound: Array = plain + constants
    return bound
