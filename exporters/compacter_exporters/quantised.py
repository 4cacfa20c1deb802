"""Weights in 8 or fewer bits: W = (q - zero) scale, with one scale for the matrix, a column, or a block of a column.

Dynamic quantisation keeps int8 matrices (MatMulInteger, or ONNX Runtime's DynamicQuantizeMatMul and
MatMulIntegerToFloat); MatMulNBits packs 2, 4 or 8 bits, a block of a column after the other. Only the entries somebody
asks for are dequantised.

The step between neighbouring values bounds what quantising a weight w changed: rounding to the nearest, by half a step;
a symmetric code of b bits has no value for +2^(b-1) steps, so that w at an end of the range may be off by a whole one.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.fused.parts import is_contrib
from compacter_exporters.graph import constant_of, is_op, other_input, producer_of

_MATRIX: Final = 2
_STATIC: Final = ("QuantizeLinear", "QLinearMatMul")
_STATIC_CONTRIB: Final = ("QuantizeLinear", "QLinearAdd", "QGemm")
_PRODUCTS: Final = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits")


class Codes(Protocol):
    """A quantised matrix [in, out]."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    def entries(self, rows: Array, columns: Array) -> tuple[Array, Array]:
        """Dequantised entries at these positions, and how far quantising may have moved each: float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One scale for all, or for each column.

    Args:
        codes: q [in, out].
        scale: [] or [out].
        zero: [] or [out].
    """

    codes: Array
    scale: Array
    zero: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of W."""
        return self.codes.shape

    def entries(self, rows: Array, columns: Array) -> tuple[Array, Array]:
        """Entries, and half a step."""
        scale, zero = (np.broadcast_to(one.reshape(-1), self.shape[1:])[columns] for one in (self.scale, self.zero))
        wide = scale.astype(np.float64)
        return (self.codes[rows, columns].astype(np.float64) - zero) * wide, np.abs(wide) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Codes of a few bits, a scale and perhaps a zero for each block of a column.

    Args:
        packed: [out, blocks, bytes], the first code in the lowest bits.
        scale: [out, blocks].
        zero: as `packed`, one code for a block: [out, bytes]; or in the scale's type, [out, blocks]; or None.
        rows: how many of the last block's are in use: W has that many.
        bits: of a code.
        size: of a block.
    """

    packed: Array
    scale: Array
    zero: Array | None
    rows: int
    bits: int
    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of W."""
        return self.rows, self.packed.shape[0]

    def entries(self, rows: Array, columns: Array) -> tuple[Array, Array]:
        """Entries, and half a step, or a whole one at the ends of the range."""
        block, within = rows // self.size, rows % self.size
        codes = self._code(self.packed.reshape(self.packed.shape[0], -1), columns, block * self.size + within)
        scale = self.scale.reshape(self.packed.shape[:2])[columns, block].astype(np.float64)
        is_at_end = (codes == 0) | (codes == 2**self.bits - 1)
        return (codes - self._zeros(columns, block)) * scale, np.abs(scale) * np.where(is_at_end, 1.0, 0.5)

    def _zeros(self, columns: Array, block: Array) -> Array:
        if self.zero is None:
            return np.asarray(2.0 ** (self.bits - 1))
        if self.zero.dtype == self.scale.dtype:
            return np.asarray(self.zero.reshape(self.packed.shape[:2])[columns, block], np.float64)
        return self._code(self.zero.reshape(self.packed.shape[0], -1), columns, block)

    def _code(self, packed: Array, columns: Array, index: Array) -> Array:
        """The codes at these positions of these columns: float64."""
        per_byte = 8 // self.bits
        shift = (index % per_byte * self.bits).astype(np.uint8)
        byte = packed[columns, index // per_byte]
        return np.asarray(byte >> shift & (2**self.bits - 1), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A node whose output is x W, W quantised.

    Args:
        x: what is multiplied, before it is quantised itself.
        codes: W.
        dtype: the type of x and of the output.
    """

    x: ir.Value
    codes: Codes
    dtype: ir.DataType


def is_quantised(model: ir.Model) -> bool:
    """Whether some node of a model computes with quantised values."""
    return any(
        is_op(node, "DynamicQuantizeLinear", "MatMulInteger") or is_contrib(node, *_PRODUCTS)
        for node in model.graph.all_nodes()
    )


def refuse_static(graph: ir.Graph) -> None:
    """Refuse a graph whose activations are quantised with ranges measured before.

    Raises:
        CompacterError: E604.
    """
    for node in graph:
        if is_op(node, *_STATIC) or is_contrib(node, *_STATIC_CONTRIB):
            raise CompacterError(
                ErrorCode.E604,
                "the graph is quantised statically: its ranges were measured without the adapter",
                value=node.op_type,
                expected="floating-point values between the linear layers",
                remedy="Graft before quantising, or quantise dynamically or the weights alone.",
            )


def quantised_product(node: ir.Node) -> Product | None:
    """The product that this node puts out, or None; one that adds a bias within the node is none."""
    if is_op(node, "Mul"):
        return _of_integers(node)
    if is_contrib(node, "DynamicQuantizeMatMul"):
        return _columns(node, node.inputs[0], *_inputs(node, 1, 2, 3, without=4))
    if is_contrib(node, "MatMulIntegerToFloat"):
        return _columns(node, _before_quantising(node.inputs[0]), *_inputs(node, 1, 3, 5, without=6))
    return _blocks(node) if is_contrib(node, "MatMulNBits") else None


def _inputs(node: ir.Node, *positions: int, without: int) -> list[ir.Value | None]:
    """Some inputs, none if the node has that other one too."""
    values = list(node.inputs) + [None] * (without + 1 - len(node.inputs))
    return [values[position] if values[without] is None else None for position in positions]


def _of_integers(product: ir.Node) -> Product | None:
    """The product x W = Cast(MatMulInteger(q(x), q, ..)) (scale of x * scale)."""
    for value in product.inputs:
        cast = producer_of(value)
        inner = cast.inputs[0] if cast is not None and is_op(cast, "Cast") else None
        node = producer_of(inner)
        scales = None if value is None else other_input(product, value)
        factor = producer_of(scales)
        if node is None or factor is None or not is_op(node, "MatMulInteger") or not is_op(factor, "Mul"):
            continue
        scale = next((one for one in factor.inputs if constant_of(one) is not None), None)
        zero = node.inputs[3] if len(node.inputs) > 3 else None  # noqa: PLR2004 the operator's last input
        return _columns(product, _before_quantising(node.inputs[0]), node.inputs[1], scale, zero)
    return None


def _before_quantising(value: ir.Value | None) -> ir.Value | None:
    node = producer_of(value)
    return node.inputs[0] if node is not None and is_op(node, "DynamicQuantizeLinear") else None


def _columns(
    node: ir.Node, x: ir.Value | None, codes: ir.Value | None, scale: ir.Value | None, zero: ir.Value | None
) -> Product | None:
    matrix, steps, zeros = constant_of(codes), constant_of(scale), constant_of(zero)
    if x is None or matrix is None or steps is None or matrix.view.ndim != _MATRIX:
        return None
    offset = np.zeros((), matrix.view.dtype) if zeros is None else zeros.view
    if any(one.size not in (1, matrix.view.shape[1]) for one in (steps.view, offset)):
        return None
    return Product(x, Columns(matrix.view, steps.view, offset), steps.dtype)


def _blocks(node: ir.Node) -> Product | None:
    """MatMulNBits; rows in another order (its input g_idx) are not read."""
    packed, scale, zero = (constant_of(value) for value in _inputs(node, 1, 2, 3, without=5))
    is_ordered = len(node.inputs) <= 4 or node.inputs[4] is None  # noqa: PLR2004 the position of g_idx
    x = node.inputs[0]
    if packed is None or scale is None or x is None or not is_ordered:
        return None
    sizes = {name: node.attributes[name].as_int() for name in ("K", "bits", "block_size") if name in node.attributes}
    rows, bits, size = sizes["K"], sizes.get("bits", 4), sizes["block_size"]
    if 8 % bits != 0:
        return None
    codes = Blocks(packed.view, scale.view, None if zero is None else zero.view, rows, bits, size)
    return Product(x, codes, scale.dtype)
