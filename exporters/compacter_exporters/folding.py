"""Multiplying out, in a copy of a graph, the constant factors that calls give weights in: what a session does as well.

Only who looks for places needs it: a linear, and a projection of an adapter, is a product with one constant there.
Inputs with defaults are constants by then (`linkage.static.bind`).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.linkage.swappable import ALL_SITES, site_input
from compacter_exporters.graph import constant_of, is_op
from compacter_exporters.rewire import drop_unused, redirect

_PRODUCTS: Final = ("MatMul", "Flatten")


def fold_factors(model: ir.Model, sites: Sequence[Mapping[str, Array]] = ()) -> None:
    """Make constants of the products of constants in all graphs of a model, and of what calls take for their sites.

    Args:
        model: is changed.
        sites: for each site the tensors that calls take from those of all sites, by their names within a site, without
            what pads them; sites without tensors, and what is missing, are those of the graph.
    """
    for graph in model.graphs():
        for node in list(graph):
            if is_op(node, *_PRODUCTS) or _name_of_all(node) is not None:
                _fold(model, graph, node, sites)


def _name_of_all(node: ir.Node) -> str | None:
    """The name within a site of a tensor of all sites that a node takes one site's part of."""
    if not is_op(node, "Gather") or node.inputs[0] is None:
        return None
    name, prefix = str(node.inputs[0].name), site_input(ALL_SITES, "")
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def _fold(model: ir.Model, graph: ir.Graph, node: ir.Node, sites: Sequence[Mapping[str, Array]]) -> None:
    arrays = [constant.exact() for constant in map(constant_of, node.inputs) if constant is not None]
    if len(arrays) != len(node.inputs):
        return
    old = node.outputs[0]
    array = _computed(node, arrays, sites)
    result = ir.Tensor(array)
    new = ir.val(f"{old.name}/folded", result.dtype, list(array.shape), const_value=result)
    model.graph.register_initializer(new)
    redirect(graph, old, new, tuple(old.uses()))
    drop_unused(old)


def _computed(node: ir.Node, arrays: list[Array], sites: Sequence[Mapping[str, Array]]) -> Array:
    if node.op_type == "MatMul":
        product: Array = np.matmul(*arrays)
        return product
    if node.op_type == "Gather":
        array, index = arrays[0], int(arrays[1])
        own = sites[index] if index < len(sites) else {}
        return own.get(_name_of_all(node) or "", array[index])
    axis = node.attributes["axis"].as_int()
    (array,) = arrays
    return array.reshape(int(np.prod(array.shape[:axis])), -1)
