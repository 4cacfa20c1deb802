"""Comparing values of a run with the reference: one result per comparison, within a derived bound."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Final, Self

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array, DType, ProjectionParameters, SiteParameters
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.reference.adapter import forward
from compacter_core.reference.bounds import fold_bound, forward_bound, layer_norm_bound, worst_ratio
from compacter_core.reference.column import column_bound
from compacter_core.reference.dissolved import dissolved_bound, dissolved_reference
from compacter_core.reference.placement import layer_norm
from compacter_core.reference.projection import project
from compacter_core.reference.rms_norm import rms_norm, rms_norm_bound
from compacter_core.reference.rounding import SLACK, Precision, affine_error, float64_site
from compacter_core.vocabulary import ProjectionKind
from compacter_exporters.dissolving import DissolvedLinear

_STORAGE: Final = {
    ir.DataType.DOUBLE: DType.F64,
    ir.DataType.FLOAT: DType.F32,
    ir.DataType.FLOAT16: DType.F16,
    ir.DataType.BFLOAT16: DType.BF16,
}


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one comparison, or the worst of several.

    Args:
        error: the largest |difference|.
        ratio: the largest |difference| / bound; at most 1 where the check passes.
        problem: what is wrong, if it is not a matter of numbers.
    """

    error: float = 0.0
    ratio: float = 0.0
    problem: str | None = None

    @property
    def ok(self) -> bool:
        """Whether everything is within its bound."""
        return self.problem is None and self.ratio <= 1.0

    @classmethod
    def of(cls, got: Array, reference: Array, bound: Array) -> Self:
        """Compare element by element."""
        if got.shape != reference.shape:
            return cls(problem=f"shape {got.shape} instead of {reference.shape}")
        difference = np.abs(got.astype(np.float64) - reference)
        return cls(error=float(np.max(difference, initial=0.0)), ratio=worst_ratio(got, reference, bound))

    @classmethod
    def worst(cls, checks: Iterable["Check"]) -> "Check":
        """The largest error and ratio of several comparisons, and the first problem."""
        several = tuple(checks)
        return Check(
            error=max((check.error for check in several), default=0.0),
            ratio=max((check.ratio for check in several), default=0.0),
            problem=next((check.problem for check in several if check.problem is not None), None),
        )

    def as_dict(self) -> dict[str, object]:
        """JSON-compatible fields."""
        return {**asdict(self), "ok": self.ok}


@dataclass(frozen=True, slots=True)
class Numbers:
    """The types a graph computes in.

    Half-precision graphs sum in single precision, on the CPU and on GPUs alike.
    """

    storage: DType
    accumulate: DType

    @classmethod
    def of(cls, dtype: ir.DataType) -> Self:
        """Of a graph whose tensors have that type.

        Raises:
            CompacterError: E003 for another type than float 64, 32, 16 or bfloat16.
        """
        storage = _STORAGE.get(dtype)
        if storage is None:
            raise CompacterError(
                ErrorCode.E003, "no error bounds for this type", value=dtype.name, expected=", ".join(DType)
            )
        return cls(storage, storage if storage is DType.F64 else DType.F32)

    @classmethod
    def coarsest(cls, dtypes: Iterable[ir.DataType]) -> Self:
        """Of the type with the largest roundoff, where a graph computes in several.

        Raises:
            CompacterError: E003, as `of`.
        """
        return max((cls.of(dtype) for dtype in dtypes), key=lambda one: one.roundoff)

    @property
    def roundoff(self) -> float:
        """The unit roundoff of a stored value."""
        return self.storage.roundoff

    def unseen(self, value: Array) -> Array:
        """How far an observed value may be off from the one the graph went on with.

        Runtimes compute half-precision graphs in single precision where they have no kernel, and hand the wider value
        on: what is observed is rounded once more than what is used.
        """
        return np.abs(value) * (0.0 if self.storage is self.accumulate else self.roundoff)


def check_plain(site: SiteParameters, x: Array, skip: Array, output: Array, numbers: Numbers) -> Check:
    """Check that output = skip + delta(x)."""
    site, x, skip = float64_site(site), x.astype(np.float64), skip.astype(np.float64)
    bound = forward_bound(
        site,
        x,
        skip,
        storage=numbers.storage,
        accumulate=numbers.accumulate,
        input_error=numbers.unseen(x),
        skip_error=numbers.unseen(skip),
    )
    return Check.of(output, forward(site, x, skip), bound)


def check_folded(
    site: SiteParameters, m: Array, b: Array, output: Array, numbers: Numbers, *, absorbed: Array | None = None
) -> Check:
    """Check that output = h + delta(h), h = m + b.

    b was read back from the graph's constant c = round(bu' + b), hence is off by one rounding of that constant.

    Where c is `absorbed`, the graph adds it last, y = (m + act(..) Wu') + c. Against m + (act(..) Wu' + c) the sum
    y - c is rounded once more: with E the bound without that, as in LNK-4, E + (1 + u)(u (|y - c| + E) + eta).
    """
    site, m, b = float64_site(site), m.astype(np.float64), b.astype(np.float64)
    bu = np.zeros_like(b) if site.up.b is None else np.abs(site.up.b * site.scaling)
    own = numbers.roundoff * (np.abs(b) + bu) + numbers.unseen(m)
    bound = fold_bound(site, m, b, storage=numbers.storage, accumulate=numbers.accumulate, input_error=own)
    h = m + b
    y = forward(site, h, h)
    if absorbed is not None:
        more = numbers.roundoff * (np.abs(y - absorbed) + bound) + numbers.storage.smallest_normal
        bound = bound + SLACK * (1 + numbers.roundoff) * more
    return Check.of(output, y, bound)


def check_bias_first(site: SiteParameters, h: Array, output: Array, numbers: Numbers) -> Check:
    """Check that output = (h - bu') + delta(h - bu'), where h is what the graph has behind its bias b + bu'.

    The graph computes h + act(h Wd + (bd - bu' Wd)) Wu'. That is the folded form with m = h and -bu' in the place of b,
    whose last bias bu' - bu' is zero, so that nothing of it is rounded.
    """
    site, h = float64_site(site), h.astype(np.float64)
    bu = np.zeros(h.shape[-1]) if site.up.b is None else site.up.b * site.scaling
    own = numbers.unseen(h)
    bound = fold_bound(site, h, -bu, storage=numbers.storage, accumulate=numbers.accumulate, input_error=own)
    return Check.of(output, forward(site, h - bu, h - bu), bound)


def check_column(site: SiteParameters, m: Array, b: Array, output: Array, numbers: Numbers) -> Check:
    """Check that output = h + delta(h), h = m + b, where the graph adds c_u = bu' + b within the up-projection.

    b was read back from the row c_u / act(z), hence is off by one rounding of c_u.
    """
    site, m, b = float64_site(site), m.astype(np.float64), b.astype(np.float64)
    bu = np.zeros_like(b) if site.up.b is None else np.abs(site.up.b * site.scaling)
    bound = column_bound(
        site,
        m,
        b,
        storage=numbers.storage,
        accumulate=numbers.accumulate,
        input_error=numbers.unseen(m),
        bias_error=numbers.roundoff * (np.abs(b) + bu),
    )
    return Check.of(output, forward(site, m + b, m + b), bound)


def check_dissolved(site: SiteParameters, a: Array, layer: DissolvedLinear, output: Array, numbers: Numbers) -> Check:
    """Check that output = h + delta(h), h = a W + b, where the graph has but one linear layer with other weights."""
    # A Gemm takes its rows without the axes that they are brought into behind it.
    a, output = a.reshape(-1, a.shape[-1]).astype(np.float64), output.reshape(-1, output.shape[-1])
    before = layer.weight_before, layer.bias_or_zero
    bound = dissolved_bound(
        site,
        a,
        before,
        (layer.weight_after.astype(np.float64), layer.bias_after.astype(np.float64)),
        storage=numbers.storage,
        accumulate=numbers.accumulate,
        input_error=numbers.unseen(a),
    )
    return Check.of(output, dissolved_reference(site, a, *before), bound)


def check_sum(first: Array, second: Array, total: Array, numbers: Numbers, *, error: Array | float = 0.0) -> Check:
    """Check that total = first + second, up to one rounding, and an error that the operator makes besides."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    reference = first + second
    given = numbers.unseen(first) + numbers.unseen(second) + error
    bound = (1 + numbers.roundoff) * given + numbers.roundoff * np.abs(reference) + numbers.storage.smallest_normal
    return Check.of(total, reference, SLACK * bound)


def check_rms_norm(
    x: Array, output: Array, numbers: Numbers, *, gain: Array, eps: float, error: Array | float = 0.0
) -> Check:
    """Check that output = N(x), a root-mean-square norm, where the node's own x is off by `error`."""
    x, gain = x.astype(np.float64), gain.astype(np.float64)
    bound = rms_norm_bound(
        x, gain, eps, storage=numbers.storage, accumulate=numbers.accumulate, input_error=numbers.unseen(x) + error
    )
    return Check.of(output, rms_norm(x, gain, eps), bound)


def check_norm(
    x: Array,
    output: Array,
    numbers: Numbers,
    *,
    gain: Array,
    bias: Array | None,
    eps: float,
    error: Array | float = 0.0,
) -> Check:
    """Check that output = N(x), a layer norm, where the node's own x is off by `error`."""
    x, gain = x.astype(np.float64), gain.astype(np.float64)
    offset = None if bias is None else bias.astype(np.float64)
    bound = layer_norm_bound(
        x,
        gain,
        offset,
        eps,
        storage=numbers.storage,
        accumulate=numbers.accumulate,
        input_error=numbers.unseen(x) + error,
    )
    return Check.of(output, layer_norm(x, gain, offset, eps), bound)


def check_linear(x: Array, weight: Array, bias: Array | None, output: Array, numbers: Numbers) -> Check:
    """Check that output = x W + b, W [in, out]."""
    dense = ProjectionParameters(
        kind=ProjectionKind.DENSE, W=weight.astype(np.float64), b=None if bias is None else bias.astype(np.float64)
    )
    x = x.astype(np.float64)
    own = affine_error(dense, x, 0.0, Precision.of(DType.F64, DType.F64))
    bound = affine_error(dense, x, numbers.unseen(x), Precision.of(numbers.storage, numbers.accumulate)) + own
    return Check.of(output, project(dense, x), SLACK * bound)


def failed(check: Check, problem: str) -> Check:
    """The check with a problem that is not a matter of numbers."""
    return replace(check, problem=problem)
