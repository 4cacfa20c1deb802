"""Root-mean-square norms of a graph: N(x) = x / sqrt(mean(x^2) + eps) * gain over the last axis.

Exporters write RMSNormalization (opset 23) or SimplifiedLayerNormalization (ONNX Runtime's), or the parts: Pow or Mul,
ReduceMean, Add, Sqrt, Reciprocal or Div, Mul, Mul. Models that normalise in single precision have Casts between them.
"""

from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_exporters.graph import Slot, constant_of, consumers, is_op, other_input, producer_of

_SQUARE: Final = 2
_OPERATORS: Final = ("RMSNormalization", "SimplifiedLayerNormalization")

Found = tuple[ir.Value, ir.Value, Slot, float]
"""x, N(x), where the gain is consumed, and eps."""


def find_rms_norm(node: ir.Node) -> Found | None:
    """The norm that this node computes, or whose x is divided by its root mean square in this node."""
    if node.op_type in _OPERATORS:
        return _operator(node)
    if not is_op(node, "Mul", "Div"):
        return None
    for x in node.inputs:
        divisor = None if x is None else other_input(node, x)
        root = divisor if is_op(node, "Div") and x is node.inputs[0] else _inverted(divisor)
        epsilon = _epsilon(root, uncast(x))
        if x is not None and epsilon is not None:
            return _with_gain(node, uncast(x), epsilon)
    return None


def uncast(value: ir.Value | None) -> ir.Value | None:
    """The value before any Casts."""
    while value is not None and is_op(value.producer(), "Cast"):
        node = value.producer()
        value = None if node is None else node.inputs[0]
    return value


def cast_of(value: ir.Value) -> ir.Value:
    """The value behind a Cast that alone reads this one; the value itself if something else reads it."""
    readers = value.consumers()
    return readers[0].outputs[0] if len(readers) == 1 and is_op(readers[0], "Cast") else value


def _operator(node: ir.Node) -> Found | None:
    x, gain = node.inputs[0], Slot(node, 1)
    if x is None or constant_of(gain.value) is None:
        return None
    epsilon = node.attributes.get("epsilon")
    return x, node.outputs[0], gain, 1e-5 if epsilon is None else epsilon.as_float()


def _with_gain(product: ir.Node, x: ir.Value | None, epsilon: float) -> Found | None:
    """The norm, where its last product is with a constant gain."""
    normed = cast_of(product.outputs[0])
    for node in consumers(normed, "Mul"):
        index = 1 if node.inputs[0] is normed else 0
        if x is not None and constant_of(node.inputs[index]) is not None:
            return x, node.outputs[0], Slot(node, index), epsilon
    return None


def _inverted(value: ir.Value | None) -> ir.Value | None:
    """s, where the value is 1 / s."""
    node = producer_of(value)
    if node is None:
        return None
    if is_op(node, "Reciprocal"):
        return node.inputs[0]
    one = constant_of(node.inputs[0]) if is_op(node, "Div") else None
    return node.inputs[1] if one is not None and bool(np.all(one.exact() == 1)) else None


def _epsilon(root: ir.Value | None, x: ir.Value | None) -> float | None:
    """Epsilon, where the value is sqrt(mean(x^2) + eps)."""
    node = producer_of(root)
    add = node.inputs[0].producer() if node is not None and is_op(node, "Sqrt") and node.inputs[0] is not None else None
    if add is None or not is_op(add, "Add"):
        return None
    for mean_value in add.inputs:
        epsilon = None if mean_value is None else constant_of(other_input(add, mean_value))
        mean = producer_of(mean_value)
        if epsilon is None or epsilon.view.size != 1 or mean is None or not is_op(mean, "ReduceMean"):
            continue
        if _is_square_of(mean.inputs[0], x):
            return float(epsilon.exact().reshape(()))
    return None


def _is_square_of(value: ir.Value | None, x: ir.Value | None) -> bool:
    node = producer_of(value)
    if node is None or x is None or uncast(node.inputs[0]) is not x:
        return False
    if is_op(node, "Mul"):
        return uncast(node.inputs[1]) is x
    exponent = constant_of(node.inputs[1]) if is_op(node, "Pow") else None
    return exponent is not None and bool(np.all(exponent.exact() == _SQUARE))
