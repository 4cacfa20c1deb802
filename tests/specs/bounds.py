"""The bounds of numbers.md, transcribed from its text and evaluated slowly; its tables are read as they are.

`u` is a precision, `p` a projection, `x` and `g` have two axes; all arrays are float64. Names are those of the text.
"""

# ruff: noqa: N803, N806

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from compacter_core.adapter import Array, DType, ProjectionParameters, SiteParameters
from compacter_core.config import Attach
from compacter_core.reference.activations import activate
from compacter_core.reference.projection import fast_weight, project, rule, weight
from compacter_core.vocabulary import Activation
from tests.specs.documents import documents, section, tables
from tests.support.site_tools import tensors_of, with_tensors

TEXT = documents()["numbers.md"]
TYPES, COUNTS, _, CONSTANTS, GRADIENT_COUNTS = tables(TEXT)


@dataclass(frozen=True)
class Precision:
    """A row of the table of types for storage, and one for accumulation."""

    u_s: float
    u_a: float
    eta_s: float
    eta_a: float

    @classmethod
    def of(cls, storage: DType, accumulate: DType) -> "Precision":
        rows = {row[0]: [2.0 ** int(cell.removeprefix("2^")) for cell in row[1:]] for row in TYPES[1:]}
        (u_s, eta_s), (u_a, eta_a) = rows[storage], rows[accumulate]
        return cls(u_s, u_a, eta_s, eta_a)

    def G(self, P: int, K: int = 0) -> float:
        return float((1 + Fraction(self.u_s)) ** P * (1 + Fraction(self.u_a)) ** K - 1)


def evaluated(cell: str, **values: Any) -> int:
    """A formula of a table: blanks between names multiply, ^ is a power."""
    text = re.sub(r"(\w) (?=\w)", r"\1*", cell.replace("in", "n_in").replace("out", "n_out")).replace("^", "**")
    names = {"__builtins__": {}, "max": max, "floor": int, **values}
    return int(eval(text, names))  # noqa: S307 the text is our own


def sizes(p: ProjectionParameters) -> dict[str, int]:
    fast = fast_weight(p)
    n = fast.shape[0] if p.kind.has_rule else 1
    r = p.W_left.shape[-1] if p.W_left is not None else 1
    return {
        "n_in": n * fast.shape[-2],
        "n_out": n * fast.shape[-1],
        "n": n,
        "r": r,
        "c": int(p.phm_rule_left is not None),
    }


def counts(p: ProjectionParameters) -> tuple[int, int]:
    rows = {row[0].strip("`"): row[1:] for row in COUNTS[1:]}
    P, K = rows[p.kind.value]
    return evaluated(P, **sizes(p)), evaluated(K, **sizes(p))


def absolute(p: ProjectionParameters, added: float = 0.0) -> ProjectionParameters:
    return with_tensors(p, {name: np.abs(tensor) + added for name, tensor in tensors_of(p).items()})


def Q(p: ProjectionParameters, X: Array) -> Array:
    """The table of NUM-4 for one token's X, element by element; p holds absolute values."""
    n, n_out = sizes(p)["n"], sizes(p)["n_out"]
    if not p.kind.has_rule:
        if p.W_right is None:
            return np.full(n_out, 2.0)
        return np.array([X.sum() + sum(row[j] for row in p.W_right) + 2 for j in range(n_out)])
    A, W = rule(p), fast_weight(p)
    side, width = W.shape[1:]
    blocks = X.reshape(n, side)
    B = blocks.sum(axis=1)
    value = np.zeros((n, width))
    for b, q in np.ndindex(n, width):
        total = sum(B[a] * A[i, a, b] for i in range(n) for a in range(n)) + 2 * n * B.sum()
        total += sum(W[i, k, q] for i in range(n) for k in range(side))
        if p.W_right is None:
            total += sum(A[i, a, b] * W[i, k, q] for i in range(n) for a in range(n) for k in range(side))
        else:
            t = [p.W_right[i, rho, q] for i in range(n) for rho in range(p.W_right.shape[1])]
            total += 2 * sum(t)
            total += sum(A[i, a, b] * p.W_right[i, :, q].sum() for i in range(n) for a in range(n))
        if p.phm_rule_right is not None:
            total += sum(blocks[a, k] * W[i, k, q] for i in range(n) for a in range(n) for k in range(side))
            total += sum(p.phm_rule_right[i, 0, b] * W[i, k, q] for i in range(n) for k in range(side))
        value[b, q] = total + 2 * n + 2
    return value.reshape(-1)


def affine(p: ProjectionParameters, x: Array, E_in: Array, u: Precision) -> Array:
    """NUM-4."""
    P, K = counts(p)
    G, p = u.G(P, K), absolute(p)
    X = np.abs(x) + E_in
    b = 0.0 if p.b is None else p.b
    underflow = np.stack([Q(p, row) for row in X]) if len(X) else np.zeros((0, sizes(p)["n_out"]))
    result: Array = G * (X @ weight(p) + b) + E_in @ weight(p) + (1 + G) * (u.eta_s + 2 * K * u.eta_a) * underflow
    return result


def constant(kind: Activation, column: int) -> float:
    rows = {word: row[column] for row in CONSTANTS[1:] for word in re.findall(r"`(\w+)`", row[0])}
    return float(rows[kind.value])


def activation(kind: Activation, z: Array, E_z: Array, u: Precision) -> Array:
    """NUM-5."""
    if kind in (Activation.RELU, Activation.IDENTITY):
        return E_z
    L, size = constant(kind, 1), np.abs(z) + E_z
    result: Array = L * E_z + 10 * u.u_s * size + u.eta_s * (4 + 2 * size)
    return result


def scaled(scaling: Array | float, o: Array, E_o: Array, u: Precision) -> Array:
    """NUM-6."""
    size = np.abs(o) + E_o
    result: Array = np.abs(scaling) * (E_o + u.G(2) * size) + u.eta_s * (size + 1)
    return result


def after_down(site: SiteParameters, z: Array, E_z: Array, u: Precision) -> Array:
    """NUM-7 from E_z on."""
    a = activate(site.non_linearity, z)
    E_a = activation(site.non_linearity, z, E_z, u)
    E_o = affine(site.up, a, E_a, u)
    folding = u.eta_s * (np.abs(a) + E_a).sum(axis=-1, keepdims=True)
    result: Array = scaled(site.scaling, project(site.up, a), E_o, u) + folding
    return result


def delta(site: SiteParameters, x: Array, E_in: Array, u: Precision) -> Array:
    """NUM-7."""
    return after_down(site, project(site.down, x), affine(site.down, x, E_in, u), u)


def total(y: Array, E: Array, u: Precision) -> Array:
    """NUM-8, and the last sum of NUM-14."""
    result: Array = (1 + u.u_s) * E + u.u_s * np.abs(y) + u.eta_s
    return result


def folded(site: SiteParameters, m: Array, b: Array, E_m: Array, u: Precision) -> Array:
    """NUM-14, the implementation's part."""
    h = m + b
    y = h + site.scaling * project(site.up, activate(site.non_linearity, project(site.down, h)))
    bias = np.abs(b) @ weight(absolute(site.down)) + (0.0 if site.down.b is None else np.abs(site.down.b))
    E_z = affine(with_tensors(site.down, {"b": bias}), m, E_m, u)
    E_delta = after_down(site, project(site.down, h), E_z, u)
    return total(y, (1 + u.u_s) * E_delta + u.G(2) * np.abs(b) + 2 * u.eta_s + E_m, u)


def layer_norm(x: Array, E: Array, u: Precision, *, gain: Array, bias: Array, eps: float) -> Array:
    """NUM-15."""

    def mean(v: Array) -> Array:
        result: Array = v.mean(axis=-1, keepdims=True)
        return result

    X, c, g = np.abs(x) + E, x - mean(x), u.G(3, x.shape[-1] + 2)
    v = mean(c * c)
    E_m = mean(E) + g * mean(X) + u.eta_s
    E_v = mean(2 * np.abs(c) * (E + mean(E)) + (E + mean(E)) ** 2) + 6 * g * mean(X * X) + 8 * u.eta_s
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse = (1 + u.G(6)) * (v + eps - E_v) ** -0.5
        E_i = inverse - (v + eps) ** -0.5
        bound = np.abs(gain) * ((E + E_m) * inverse + np.abs(c) * E_i)
        bound = (
            bound
            + u.G(5) * (np.abs(gain) * (X + mean(X) + E_m) * inverse + np.abs(bias))
            + 5 * u.eta_s * (1 + np.abs(gain))
        )
        return np.where(E_v >= v + eps, np.inf, bound)


def rms_norm(x: Array, E: Array, u: Precision, *, gain: Array, eps: float) -> Array:
    """NUM-17."""
    X = np.abs(x) + E
    q = (x * x).mean(axis=-1, keepdims=True) + eps
    E_q = (2 * np.abs(x) * E + E**2).mean(axis=-1, keepdims=True) + 4 * u.eta_s
    E_q = E_q + u.G(3, x.shape[-1] + 2) * ((X * X).mean(axis=-1, keepdims=True) + eps)
    with np.errstate(invalid="ignore", divide="ignore"):
        root, smaller = np.sqrt(q), np.sqrt(q - E_q)
        inverse = (1 + u.G(6)) / smaller
        # I - q^(-1/2) over a common denominator: in double precision the difference itself would lose its digits.
        E_i = ((1 + u.G(6)) * E_q / (root + smaller) + u.G(6) * smaller) / (root * smaller)
        bound = np.abs(gain) * (E * inverse + np.abs(x) * E_i)
        bound = bound + u.G(4) * np.abs(gain) * X * inverse + 5 * u.eta_s * (1 + np.abs(gain))
        return np.where(E_q >= q, np.inf, bound)


def margin() -> float:
    """The factor of NUM-3."""
    match = re.search(r"`\(1 \+ 2\^-(\d+)\) \(E\(s, a\) \+ E\(F64, F64\)\)`", section(TEXT, "Model of the arithmetic"))
    if match is None:
        raise ValueError("NUM-3 has changed")
    return 2.0 ** -int(match.group(1))


def sublayer(
    attach: Attach, site: SiteParameters, r: Array, h: Array, u: Precision, *, gain: Array, offset: Array
) -> Array:
    """NUM-16, one part of NUM-3."""

    def E_N(v: Array, E: Array) -> Array:
        result: Array = np.abs(gain) * E + u.G(2) * (np.abs(gain) * (np.abs(v) + E) + np.abs(offset)) + 3 * u.eta_s
        return result

    s, nothing = r + h, np.zeros_like(r)
    E_s = u.u_s * np.abs(s) + u.eta_s
    known = {"sublayer_output": (h, nothing), "residual": (r, nothing), "residual_sum": (s, E_s)}
    known["normed_sum"] = (gain * s + offset, E_N(s, E_s))
    x, E_x = known[attach.input.value]
    exact = Precision.of(DType.F64, DType.F64)
    E_delta = (1 + margin()) * (delta(site, x, E_x, u) + delta(site, x, nothing, exact))
    value = site.scaling * project(site.up, activate(site.non_linearity, project(site.down, x)))
    terms = [known[attach.skip.value], (value, E_delta), *([(r, nothing)] if attach.post else [])]
    E_w = np.asarray(sum(E + u.G(2) * (np.abs(v) + E) for v, E in terms) + 3 * u.eta_s)
    return E_N(np.asarray(sum(v for v, _ in terms)), E_w) if attach.post else E_w
