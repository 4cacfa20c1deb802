"""An adapter without an activation, dissolved in the linear layer before it.

With act the identity, input = skip = h and h = a W + b, the adapter is affine in h, and so is the layer in a:

    y = h + (h Wd + bd) Wu' + bu' = h M + c,     M = I + Wd Wu',   c = bd Wu' + bu',
    y = a W' + b',                               W' = W M,         b' = b M + c,

where Wu' = scaling Wu and bu' = scaling bu. It is undone with the inverse of a k x k matrix (Woodbury):

    M^-1 = I - Wd S^-1 Wu',                      S = I + Wu' Wd.
"""

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from compacter_core.adapter import Array, DType, ProjectionParameters, SiteParameters
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.reference.adapter import forward
from compacter_core.reference.bounds import forward_bound
from compacter_core.reference.projection import project, weight
from compacter_core.reference.rounding import SLACK, Precision, affine_error, float64_site, magnitude, rounding_counts
from compacter_core.vocabulary import Activation, ProjectionKind

_REFERENCE: Final = Precision.of(DType.F64, DType.F64)


@dataclass(frozen=True, slots=True, eq=False)
class AffineMap:
    """The map h -> h M + c of an adapter without an activation, in float64.

    Args:
        Wd: [d, k].
        Wu: scaling Wu, [k, d].
        c: [d].
    """

    Wd: Array
    Wu: Array
    c: Array

    @classmethod
    def of(cls, site: SiteParameters) -> Self:
        """Of a site whose activation is the identity.

        Raises:
            CompacterError: E605 for another activation.
        """
        if site.non_linearity is not Activation.IDENTITY:
            raise CompacterError(
                ErrorCode.E605,
                "an adapter with an activation is no affine map and cannot become part of a weight",
                value=site.non_linearity.value,
                expected=Activation.IDENTITY.value,
                remedy="Use the form auto, which computes the adapter beside the weight.",
            )
        site = float64_site(site)
        zero = np.zeros(weight(site.down).shape[0])
        return cls(Wd=weight(site.down), Wu=weight(site.up) * site.scaling, c=forward(site, zero, zero))

    def __call__(self, W: Array, b: Array) -> tuple[Array, Array]:
        """W' = W M and b' = b M + c, of W [in, d] and b [d]."""
        return self.linear(W), self.linear(b) + self.c

    def linear(self, rows: Array) -> Array:
        """The rows times M, [..., d]."""
        rows = rows.astype(np.float64)
        product: Array = rows + (rows @ self.Wd) @ self.Wu
        return product

    def inverse(self) -> "AffineMap":
        """The map back, y -> (y - c) M^-1, as a map of the same kind; all NaN if M is singular."""
        S = np.eye(self.Wd.shape[1]) + self.Wu @ self.Wd
        try:
            back = -np.linalg.solve(S, self.Wu)
        except np.linalg.LinAlgError:
            back = np.full_like(self.Wu, np.nan)
        inverse = AffineMap(self.Wd, back, np.zeros_like(self.c))
        return replace(inverse, c=-inverse.linear(self.c))

    def magnitude(self, rows: Array) -> Array:
        """At least what |rows| |M| is: |rows| + |rows| |Wd| |Wu'|."""
        rows = np.abs(rows)
        product: Array = rows + (rows @ np.abs(self.Wd)) @ np.abs(self.Wu)
        return product


def dissolved_bound(
    site: SiteParameters,
    a: Array,
    before: tuple[Array, Array],
    after: tuple[Array, Array],
    *,
    storage: DType,
    accumulate: DType,
    input_error: Array | float = 0.0,
) -> Array:
    """Bound for a W' + b' against h + delta(h), h = a W + b, whatever W' and b' are (NUM-18).

    The layer itself is off by at most E (NUM-4). What it computes exactly differs from y by a (W' - W M) + b' - b M -
    c, which is evaluated in float64, with a bound of the error of that. The reference forms h, and then y, in float64.

    Args:
        site: the adapter; its activation is the identity.
        a: [..., in], the input of the layer, as the implementation got it.
        before: W [in, d] and b [d] of the layer without the adapter.
        after: W' and b', as the implementation has them.
        storage: type of tensors and results.
        accumulate: type of sums.
        input_error: how far that a may be from the reference's.

    Returns:
        float64 [..., d]
    """
    site, a = float64_site(site), a.astype(np.float64)
    layer = affine_error(_dense(*after), a, input_error, Precision.of(storage, accumulate))
    weight_error, bias_error = _differences(site, before, after)
    own = affine_error(_dense(*before), a, 0.0, _REFERENCE)
    h = project(_dense(*before), a)
    reference = forward_bound(site, h, h, storage=DType.F64, accumulate=DType.F64, input_error=own, skip_error=own)
    bound: Array = SLACK * (layer + np.abs(a) @ weight_error + bias_error + reference)
    return bound


def _differences(site: SiteParameters, before: tuple[Array, Array], after: tuple[Array, Array]) -> tuple[Array, Array]:
    """Bounds of |W' - W M| and |b' - b M - c|: their float64 values, and how far these may be off."""
    exact = AffineMap.of(site)
    wide = replace(exact, Wd=weight(magnitude(site.down)), Wu=weight(magnitude(site.up)) * np.abs(site.scaling))
    constant = 0.0 if site.down.b is None else np.abs(site.down.b) @ wide.Wu
    constant = constant + (0.0 if site.up.b is None else np.abs(site.up.b * site.scaling))
    stored, accumulated = np.add(rounding_counts(site.down), rounding_counts(site.up))
    growth = _REFERENCE.growth(int(stored) + 4, int(accumulated))
    sizes = (wide.magnitude(before[0]), wide.magnitude(before[1]) + constant)
    weight_error, bias_error = (
        np.abs(got - wanted) + growth * (size + np.abs(got))
        for got, wanted, size in zip(after, exact(*before), sizes, strict=True)
    )
    return weight_error, bias_error


def dissolved_reference(site: SiteParameters, a: Array, W: Array, b: Array) -> Array:
    """H + delta(h) with h = a W + b, in float64."""
    h = project(_dense(W, b), a.astype(np.float64))
    return forward(float64_site(site), h, h)


def _dense(W: Array, b: Array) -> ProjectionParameters:
    return ProjectionParameters(kind=ProjectionKind.DENSE, W=W.astype(np.float64), b=b.astype(np.float64))
