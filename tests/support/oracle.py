"""A second, slow opinion: the equations as plain loops over decimal numbers of 80 digits.

It shares no code and no array operation with the reference, and its rounding is far below any bound, so that its
results count as exact. Gradients are central differences of it: with a step of 1e-24 their error is about 1e-48.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from typing import Any

import numpy as np

from compacter_core.adapter import Array, ProjectionParameters, SiteParameters
from compacter_core.vocabulary import Activation, ProjectionKind

STEP = Decimal("1e-24")
PRECISION = Context(prec=80)

Vector = list[Decimal]
Matrix = list[Vector]


def decimals(values: Any) -> Any:
    """Nested lists of decimals, each exactly the number it stands for."""
    if isinstance(values, np.ndarray | list):
        return [decimals(element) for element in values]
    return values if isinstance(values, Decimal) else Decimal(float(values))


def distance(got: Array, expected: Sequence[Any]) -> Array:
    """|got - expected| elementwise: the exact difference, rounded to float64."""
    with localcontext(PRECISION):
        return np.array(_distances(decimals(got), expected), dtype=np.float64).reshape(got.shape)


def activate(kind: Activation, z: Decimal) -> Decimal:
    """The activation by its textbook definition."""
    with localcontext(PRECISION):
        match kind:
            case Activation.GELU_NEW:
                w = (2 / _pi()).sqrt() * (z + Decimal("0.044715") * z**3)
                value = z / 2 * (1 + _tanh(w))
            case Activation.GELU:
                value = z / 2 * (1 + _erf(z / Decimal(2).sqrt()))
            case Activation.RELU:
                value = max(z, Decimal(0))
            case Activation.SILU:
                value = z / (1 + (-z).exp())
            case Activation.TANH:
                value = _tanh(z)
            case Activation.IDENTITY:
                value = z
        return value


def slope(function: Callable[[Decimal], Decimal], at: Decimal) -> Decimal:
    """The derivative of a smooth function, by a central difference."""
    with localcontext(PRECISION):
        return (function(at + STEP) - function(at - STEP)) / (2 * STEP)


def weight(p: ProjectionParameters) -> Matrix:
    """The multiplied-out weight, element by element."""
    with localcontext(PRECISION):
        match p.kind:
            case ProjectionKind.DENSE:
                product: Matrix = decimals(p.W)
            case ProjectionKind.LOW_RANK:
                product = _matmul(decimals(p.W_left), decimals(p.W_right))
            case ProjectionKind.PHM:
                product = _kronecker_sum(_rule(p), decimals(p.W))
            case ProjectionKind.LPHM:
                factors = zip(decimals(p.W_left), decimals(p.W_right), strict=True)
                product = _kronecker_sum(_rule(p), [_matmul(s, t) for s, t in factors])
        return product


def down(site: SiteParameters, x: Array) -> Matrix:
    """The argument of the activation, for x [tokens, d]."""
    with localcontext(PRECISION):
        matrix = weight(site.down)
        return [_affine(row, matrix, site.down.b) for row in decimals(x)]


def delta(site: SiteParameters, x: Array) -> Matrix:
    """The adapter's delta, for x [tokens, d]."""
    with localcontext(PRECISION):
        matrix = weight(site.up)
        scaling = decimals(site.scaling)
        rows = []
        for z in down(site, x):
            o = _affine([activate(site.non_linearity, value) for value in z], matrix, site.up.b)
            factors = [scaling] * len(o) if isinstance(scaling, Decimal) else scaling * (len(o) // len(scaling))
            rows.append([factor * value for factor, value in zip(factors, o, strict=True)])
        return rows


def forward(site: SiteParameters, x: Array, skip: Array) -> Matrix:
    """The sum of skip and delta, for x and skip [tokens, d]."""
    with localcontext(PRECISION):
        return [_added(*rows) for rows in zip(decimals(skip), delta(site, x), strict=True)]


def gradient(site: SiteParameters, x: Array, g: Array, of: str, index: tuple[int, ...]) -> Decimal:
    """One element of the gradient of sum(g * delta(x)), for x and g [tokens, d].

    Args:
        site: the adapter.
        x: input.
        g: cotangent.
        of: "x", "scaling", or side and short name of a tensor such as "down.W_left".
        index: of the element.
    """

    def objective(step: Decimal) -> Decimal:
        moved_x = _moved(x, index, step) if of == "x" else x
        rows = zip(decimals(g), delta(_moved_site(site, of, index, step), moved_x), strict=True)
        return sum((_dot(*pair) for pair in rows), Decimal(0))

    return slope(objective, Decimal(0))


def layer_norm(x: Array, gain: Array, bias: Array | None, eps: float) -> Matrix:
    """Each row of x [tokens, d] normalised."""
    with localcontext(PRECISION):
        gains = decimals(gain)
        offsets = [Decimal(0)] * len(gains) if bias is None else decimals(bias)
        result = []
        for row in decimals(x):
            mean = sum(row) / len(row)
            variance = sum((value - mean) ** 2 for value in row) / len(row)
            spread = (variance + Decimal(eps)).sqrt()
            result.append([(v - mean) / spread * a + b for v, a, b in zip(row, gains, offsets, strict=True)])
        return result


def _distances(got: Any, expected: Any) -> Any:
    if isinstance(got, Decimal):
        return float(abs(got - expected))
    return [_distances(*pair) for pair in zip(got, expected, strict=True)]


def _moved_site(site: SiteParameters, of: str, index: tuple[int, ...], step: Decimal) -> SiteParameters:
    if of == "x":
        return site
    if of == "scaling":
        return replace(site, scaling=_moved(site.scaling, index, step))
    side, short = of.split(".")
    projection = getattr(site, side)
    moved = replace(projection, **{short: _moved(getattr(projection, short), index, step)})
    return replace(site, down=moved) if side == "down" else replace(site, up=moved)


def _moved(tensor: Any, index: tuple[int, ...], step: Decimal) -> Array:
    result = np.empty(tensor.shape, dtype=object)
    for place in np.ndindex(tensor.shape):
        result[place] = Decimal(float(tensor[place]))
    result[index] += step
    return result


def _rule(p: ProjectionParameters) -> list[Matrix]:
    if p.phm_rule is not None:
        rules: list[Matrix] = decimals(p.phm_rule)
        return rules
    pairs = zip(decimals(p.phm_rule_left), decimals(p.phm_rule_right), strict=True)
    return [_matmul(left, right) for left, right in pairs]


def _kronecker_sum(A: list[Matrix], W: list[Matrix]) -> Matrix:
    n, rows, columns = len(A), len(W[0]), len(W[0][0])
    return [
        [
            sum((A[i][u // rows][v // columns] * W[i][u % rows][v % columns] for i in range(n)), Decimal(0))
            for v in range(n * columns)
        ]
        for u in range(n * rows)
    ]


def _matmul(left: Matrix, right: Matrix) -> Matrix:
    return [[_dot(row, list(column)) for column in zip(*right, strict=True)] for row in left]


def _affine(row: Vector, matrix: Matrix, bias: Any) -> Vector:
    product = _matmul([row], matrix)[0]
    return product if bias is None else _added(product, decimals(bias))


def _added(a: Vector, b: Vector) -> Vector:
    return [u + v for u, v in zip(a, b, strict=True)]


def _dot(a: Vector, b: Vector) -> Decimal:
    return sum((u * v for u, v in zip(a, b, strict=True)), Decimal(0))


def _tanh(w: Decimal) -> Decimal:
    """(1 - e^(-2w)) / (1 + e^(-2w)), with as many digits more as the difference loses."""
    with localcontext(Context(prec=PRECISION.prec + max(0, -w.adjusted()))):
        falling = (-2 * abs(w)).exp()
        return ((1 - falling) / (1 + falling)).copy_sign(w)


def _erf(w: Decimal) -> Decimal:
    """2 / sqrt(pi) times the sum of (-1)^k w^(2k+1) / (k! (2k+1)); terms of up to e^(w^2) need more digits."""
    if abs(w) > 14:
        return Decimal(1).copy_sign(w)
    with localcontext(Context(prec=PRECISION.prec + int(w * w) + 10)):
        term, total, k = w, w, 0
        while term and abs(term) > Decimal(10) ** -(PRECISION.prec + 10):
            k += 1
            term = -term * w * w / k
            total += term / (2 * k + 1)
        return total * 2 / _pi().sqrt()


def _pi() -> Decimal:
    """Machin's formula: pi = 16 arctan(1/5) - 4 arctan(1/239)."""
    return 16 * _arctan_inverse(5) - 4 * _arctan_inverse(239)


def _arctan_inverse(m: int) -> Decimal:
    power, total, k = Decimal(1) / m, Decimal(1) / m, 0
    while abs(power) > Decimal(10) ** -(PRECISION.prec + 10):
        k += 1
        power = -power / (m * m)
        total += power / (2 * k + 1)
    return total
