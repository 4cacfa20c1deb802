"""Multiplying out, in a copy of a graph, the constant factors that calls give weights in: what a session does as well.

Only who looks for places needs it: a linear, and a projection of an adapter, is a product with one constant there.
Inputs with defaults are constants by then (`linkage.static.bind`).
"""

from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_exporters.graph import constant_of, is_op
from compacter_exporters.rewire import drop_unused, redirect

_OPERATORS: Final = ("MatMul", "Flatten")


def fold_factors(model: ir.Model) -> None:
    """Make constants of the products of constants in all graphs of a model."""
    for graph in model.graphs():
        for node in list(graph):
            if is_op(node, *_OPERATORS):
                _fold(model, graph, node)


def _fold(model: ir.Model, graph: ir.Graph, node: ir.Node) -> None:
    arrays = [constant.exact() for constant in map(constant_of, node.inputs) if constant is not None]
    if len(arrays) != len(node.inputs):
        return
    old = node.outputs[0]
    array = _computed(node, arrays)
    result = ir.Tensor(array)
    new = ir.val(f"{old.name}/folded", result.dtype, list(array.shape), const_value=result)
    model.graph.register_initializer(new)
    redirect(graph, old, new, tuple(old.uses()))
    drop_unused(old)


def _computed(node: ir.Node, arrays: list[Array]) -> Array:
    if node.op_type == "MatMul":
        product: Array = np.matmul(*arrays)
        return product
    axis = node.attributes["axis"].as_int()
    (array,) = arrays
    return array.reshape(int(np.prod(array.shape[:axis])), -1)
