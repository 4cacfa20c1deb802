"""The linear layers of a graph: a product with its bias Add, or Gemm, seen as y = x W + b with W [in, out].

A Gemm takes matrices, so that exporters reshape its result back to [batch, sequence, out]; that Reshape is taken to be
part of the layer. W is quantised where the product is (`quantised`).
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.format.sketch import agrees, is_sketched, sketch_indices, sketch_weight
from compacter_exporters.fused.parts import is_contrib
from compacter_exporters.graph import (
    Constant,
    Slot,
    constant_of,
    consumers,
    is_op,
    numpy_type,
    other_input,
    producer_of,
    width,
)
from compacter_exporters.quantised import Codes, Product, quantised_product

_MATRIX: Final = 2
_WITH_C: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """One linear layer of a graph.

    Args:
        node: the node that puts out the product: MatMul, Gemm, or the last one of a quantised product.
        weight: W [in, out], a view of the stored data.
        dtype: the type the layer computes in.
        bias: b [out], or None where the graph has none.
        bias_add: the Add of the bias after a MatMul.
        reshape: the Reshape behind a Gemm.
        quantised: the product, where W is quantised.
        cast: the Cast behind the product, where that is computed in another type than what follows.
    """

    node: ir.Node
    weight: Array | Codes
    dtype: ir.DataType
    bias: Array | None = None
    bias_add: ir.Node | None = None
    reshape: ir.Node | None = None
    quantised: Product | None = None
    cast: ir.Node | None = None

    @property
    def input(self) -> ir.Value:
        """x, of the shape [..., in]."""
        value = self.node.inputs[0] if self.quantised is None else self.quantised.x
        if value is None:  # neither operator has an optional first input
            raise TypeError(f"node {self.node.name} has no input")
        return value

    @property
    def product(self) -> ir.Value:
        """The node's own output, in the type of what follows: x W for MatMul, x W + b for Gemm."""
        return (self.cast or self.node).outputs[0]

    @property
    def output(self) -> ir.Value:
        """The layer's result h = x W + b, in its final shape."""
        last = self.reshape or self.bias_add or self.cast or self.node
        return last.outputs[0]

    @property
    def last_add(self) -> ir.Node | None:
        """The node that adds the bias, where nothing reshapes its result: m and h have the same shape then."""
        return None if self.reshape is not None else self.bias_add

    @property
    def bias_or_zero(self) -> Array:
        """The bias [out]; zeros where the graph has none, since some exporters drop a bias that is all zero."""
        return np.zeros(self.weight.shape[1], numpy_type(self.dtype)) if self.bias is None else self.bias

    def sketch(self) -> Array:
        """The sketch of W."""
        return sketch_weight(self.weight) if isinstance(self.weight, np.ndarray) else _entries(self.weight)[0]

    def is_sketched(self, sketch: Array) -> bool:
        """Whether W is the weight with that sketch, up to what quantising it may have changed."""
        if isinstance(self.weight, np.ndarray):
            return is_sketched(sketch, self.weight)
        return agrees(sketch, *_entries(self.weight))

    def values(self) -> Array:
        """All of W, dequantised."""
        if isinstance(self.weight, np.ndarray):
            return self.weight
        rows, columns = np.indices(self.weight.shape)
        return self.weight.entries(rows, columns)[0].astype(numpy_type(self.dtype))

    @property
    def is_gemm(self) -> bool:
        """Whether the bias is an input of the node itself."""
        return self.node.op_type == "Gemm"

    @property
    def bias_slot(self) -> Slot | None:
        """Where the bias is consumed, or, for a Gemm without one, where it would be; None for a bare MatMul."""
        if self.is_gemm:
            return Slot(self.node, 2)
        if self.bias_add is None:
            return None
        return Slot(self.bias_add, 1 if self.bias_add.inputs[0] is self.product else 0)

    @property
    def weight_is_transposed(self) -> bool:
        """Whether the node takes its weight as [out, in]."""
        return bool(_attribute(self.node, "transB", 0))


def find_linears(graph: ir.Graph) -> list[Linear]:
    """All linear layers of a graph, in its order; those of its subgraphs are theirs."""
    found = (linear_of(node) for node in graph)
    return [linear for linear in found if linear is not None]


def linear_of(node: ir.Node | None) -> Linear | None:
    """The linear layer a node computes, or None if it is something else."""
    if node is None:
        return None
    if not (is_op(node, "MatMul", "Gemm") or _is_plain_product(node)):
        product = quantised_product(node)
        return None if product is None else _with_bias(Linear(node, product.codes, product.dtype, quantised=product))
    weight = constant_of(node.inputs[1])
    if weight is None or weight.view.ndim != _MATRIX or constant_of(node.inputs[0]) is not None:
        return None
    return _gemm(node, weight) if node.op_type == "Gemm" else _matmul(node, weight)


def _entries(codes: Codes) -> tuple[Array, Array]:
    """A quantised weight's entries at the sketch positions, and how far quantising may have moved them."""
    rows, columns = np.unravel_index(sketch_indices(codes.shape), codes.shape)
    entries, steps = codes.entries(rows, columns)
    return entries.astype(np.float32), steps


def _is_plain_product(node: ir.Node) -> bool:
    """Whether a FusedMatMul neither scales nor transposes its first operand."""
    if not is_contrib(node, "FusedMatMul") or _attribute(node, "alpha", 1.0) != 1.0:
        return False
    return not any(_attribute(node, name, 0) for name in ("transA", "transBatchA", "transBatchB"))


def _matmul(node: ir.Node, weight: Constant) -> Linear:
    return _with_bias(Linear(node, weight.view.T if _attribute(node, "transB", 0) else weight.view, weight.dtype))


def _with_bias(linear: Linear) -> Linear:
    """The layer with the Cast behind its product, and the Add of a constant vector behind that, if there are such."""
    readers = [node for node in linear.product.consumers() if not is_op(node, "Shape")]
    if len(readers) == 1 and is_op(readers[0], "Cast") and not linear.product.is_graph_output():
        dtype = ir.DataType(readers[0].attributes["to"].as_int())
        if dtype.is_floating_point():
            linear = replace(linear, cast=readers[0], dtype=dtype)
    for add in consumers(linear.product, "Add"):
        bias = _vector(constant_of(other_input(add, linear.product)), linear.weight.shape[1])
        if bias is not None:
            linear = replace(linear, bias=bias, bias_add=add)
            break
    # A quantised product may have been a Gemm.
    return linear if linear.quantised is None else replace(linear, reshape=_reshape_of(linear))


def _reshape_of(linear: Linear) -> ir.Node | None:
    return reshape_behind(linear.output, linear.weight.shape[1])


def _gemm(node: ir.Node, weight: Constant) -> Linear | None:
    scaled = _attribute(node, "alpha", 1.0) != 1.0 or _attribute(node, "beta", 1.0) != 1.0
    if scaled or _attribute(node, "transA", 0):
        return None
    view = weight.view.T if _attribute(node, "transB", 0) else weight.view
    addend = node.inputs[2] if len(node.inputs) == _WITH_C else None
    bias = _vector(constant_of(addend), view.shape[1])
    if addend is not None and bias is None:
        return None
    return Linear(node, view, weight.dtype, bias, reshape=reshape_behind(node.outputs[0], view.shape[1]))


def reshape_behind(value: ir.Value, size: int) -> ir.Node | None:
    """The Reshape of a value [rows, size] that alone reads it and keeps the last dimension."""
    readers = [node for node in value.consumers() if not is_op(node, "Shape")]
    if len(readers) != 1 or not is_op(readers[0], "Reshape") or readers[0].inputs[0] is not value:
        return None
    return readers[0] if _last_dimension(readers[0]) in (size, None) else None


def _last_dimension(reshape: ir.Node) -> int | None:
    """The last dimension of a Reshape's result, where the graph states it, of the value or in the shape asked for."""
    stated = width(reshape.outputs[0])
    node = producer_of(reshape.inputs[1])
    shape = constant_of(node.inputs[-1] if node is not None and is_op(node, "Concat") else reshape.inputs[1])
    if stated is not None or shape is None or shape.view.size == 0:
        return stated
    last = int(shape.exact().reshape(-1)[-1])
    return None if last < 0 else last


def _vector(constant: Constant | None, size: int) -> Array | None:
    """A bias of that size, also one that is stored as [1, ..., size] or as a scalar to be broadcast."""
    if constant is None or constant.view.size not in (1, size) or constant.view.shape[-1:] not in ((), (1,), (size,)):
        return None
    return np.broadcast_to(constant.exact().reshape(-1), (size,))


def _attribute(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)
