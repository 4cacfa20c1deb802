"""Toy backbones in whole numbers, and their outputs in exact arithmetic, with and without an adapter.

A toy reads `hidden` [batch, sequence, d]. Each sublayer computes h = x W + b, then x <- N(x + h); the logits are the
head's answer for the first token. N is the identity on pre-norm toys. On post-norm ones it is a layer norm with
epsilon 0, fed with rows whose deviation is a power of two, so that every step is exact in every type.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from compacter_core.adapter import Adapter
from compacter_core.conformance.exact.adapter import delta
from compacter_core.conformance.exact.numbers import Matrix, Vector, added, product
from compacter_core.vocabulary import Input, Skip

Row = Sequence[float]
Rows = Sequence[Row]

SITE = "encoder.{layer}.ffn"


@dataclass(frozen=True, slots=True)
class Linear:
    """x W + b, W being [in, out]."""

    W: Rows
    b: Row | None = None

    def exact(self, x: Matrix) -> Matrix:
        """The rows x W + b."""
        y = product(x, _fractions(self.W))
        return y if self.b is None else [added(row, _fraction_row(self.b)) for row in y]


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer norm with epsilon 0."""

    gain: Row
    bias: Row

    def exact(self, x: Matrix) -> Matrix:
        """The rows (x - mean) / deviation * gain + bias.

        Raises:
            ValueError: unless the deviation of every row is a power of two.
        """
        return [self._row(row) for row in x]

    def _row(self, row: Vector) -> Vector:
        mean = sum(row, Fraction(0)) / len(row)
        centred = [value - mean for value in row]
        deviation = _root(sum((value * value for value in centred), Fraction(0)) / len(row))
        gains, biases = _fraction_row(self.gain), _fraction_row(self.bias)
        return [value / deviation * gain + bias for value, gain, bias in zip(centred, gains, biases, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """A backbone.

    Args:
        layers: the last linear of each sublayer.
        norms: the norm behind each sublayer; none on pre-norm toys.
        head: the head's linears, with a Relu between them.
        first_norm: a norm before the first sublayer.
    """

    layers: tuple[Linear, ...]
    head: tuple[Linear, ...]
    norms: tuple[Norm, ...] = ()
    first_norm: Norm | None = None

    @property
    def hidden_size(self) -> int:
        """The number of channels d."""
        return len(self.layers[0].W[0])

    @property
    def is_post_norm(self) -> bool:
        """Whether norms stand behind the residual sums."""
        return bool(self.norms)

    def logits(self, first_tokens: Rows, adapter: Adapter | None = None) -> Matrix:
        """The logits [batch, labels] for the first token of each row of a batch.

        The adapter's overrides and head have to be in the toy already (see `replaced`).

        Raises:
            ValueError: where a norm is not exact.
        """
        x = _fractions(first_tokens)
        if self.first_norm is not None:
            x = self.first_norm.exact(x)
        for index, layer in enumerate(self.layers):
            norm = self.norms[index] if self.norms else None
            x = _sublayer(x, layer.exact(x), norm, adapter, SITE.format(layer=index))
        for index, linear in enumerate(self.head):
            x = linear.exact([[max(value, Fraction(0)) for value in row] for row in x] if index else x)
        return x


def _sublayer(r: Matrix, h: Matrix, norm: Norm | None, adapter: Adapter | None, site_id: str) -> Matrix:
    """The sublayer's result (PLC-2 to PLC-5)."""

    def normed(rows: Matrix) -> Matrix:
        return rows if norm is None else norm.exact(rows)

    total: Matrix = added(r, h)
    sites: Mapping[str, object] = {} if adapter is None else {site.id: site for site in adapter.config.sites}
    if adapter is None or site_id not in sites:
        return normed(total)
    attach = adapter.config.attach_of(adapter.config.site(site_id))
    x = h if attach.input is Input.SUBLAYER_OUTPUT else r if attach.input is Input.RESIDUAL else normed(total)
    skip = {Skip.SUBLAYER_OUTPUT: h, Skip.RESIDUAL_SUM: total}.get(attach.skip)
    o = added(normed(total) if skip is None else skip, delta(adapter.site(site_id), x))
    return normed(added(r, o)) if attach.post else o


def transposed_rows(rows: Rows) -> list[list[float]]:
    """Rows as columns."""
    return [list(column) for column in zip(*rows, strict=True)]


def ternary(rows: int, columns: int, seed: int) -> list[list[int]]:
    """A matrix of -1, 0 and 1 without a pattern: the upper bits of a linear congruential generator, modulo 3."""
    state, cells = 48271 + 7919 * seed, []
    for _ in range(rows * columns):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        cells.append((state >> 33) % 3 - 1)
    return [cells[columns * row : columns * (row + 1)] for row in range(rows)]


def as_rows(matrix: Matrix) -> list[list[float]]:
    """Fractions as floats, exactly.

    Raises:
        ValueError: for one that no binary64 equals.
    """
    rows = [[float(value) for value in row] for row in matrix]
    if any(Fraction(a) != b for row, other in zip(rows, matrix, strict=True) for a, b in zip(row, other, strict=True)):
        raise ValueError("a value that binary64 does not hold")
    return rows


def _root(value: Fraction) -> Fraction:
    root = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    powers = (root.numerator, root.denominator)
    if root * root != value or root == 0 or any(power & (power - 1) for power in powers):
        raise ValueError(f"the deviation sqrt({value}) is no power of two")
    return root


def _fractions(rows: Rows) -> Matrix:
    return [_fraction_row(row) for row in rows]


def _fraction_row(row: Row) -> Vector:
    return [Fraction(value) for value in row]
