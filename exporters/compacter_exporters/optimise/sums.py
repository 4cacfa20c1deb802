"""Residual sums that no session fuses with the norm behind them.

ONNX Runtime fuses Add and LayerNormalization into SkipLayerNormalization when it loads a graph, and its kernel for CPUs
may take longer than both apart. No file can ask a session to leave that out, but the fusion looks for Add. So a sum is
written as a difference where that costs nothing (`fused.differences`), else as Sum, whose kernel runs on one thread and
into new memory: where nothing is added within the sum, or where a session adds the bias within a quantised product.
Both give the bits of Add.
"""

from collections.abc import Iterable

import onnx_ir as ir

from compacter_exporters.fused.differences import write_as_difference
from compacter_exporters.fused.pair_sums import write_as_sum
from compacter_exporters.graph import constant_of, is_op, producer_of
from compacter_exporters.linears import linear_of
from compacter_exporters.norms import find_norms, is_alone


def keep_sums_apart(model: ir.Model, *, quantised: bool = False) -> None:
    """Write the sums that layer norms read so that they stay apart (ONX-52). A model without them stays as it is.

    Args:
        model: changed, its branches included; fused operators are taken apart.
        quantised: whether the weights of all linears are going to be quantised.
    """
    write_apart(sums_before_norms(model), quantised=quantised)


def sums_before_norms(model: ir.Model) -> list[ir.Node]:
    """The Adds of two values, none of them constant, that layer norms alone read, in all graphs of a model.

    What others read too, as the residual stream of a pre-norm backbone is, no session fuses.
    """
    norms = (norm for graph in model.graphs() for norm in find_norms(graph) if norm.is_centred)
    nodes = (norm.input.producer() for norm in norms if is_alone(norm))
    return [
        node
        for node in nodes
        if node is not None and is_op(node, "Add") and all(constant_of(value) is None for value in node.inputs)
    ]


def write_apart(sums: Iterable[ir.Node], *, quantised: bool = False) -> None:
    """Write these Adds as differences or as Sum; `quantised` as in `keep_sums_apart`."""
    for node in sums:
        is_biased = any(_is_biased_product(value, quantised=quantised) for value in node.inputs)
        if is_biased or write_as_difference(node) is None:
            write_as_sum(node)


def _is_biased_product(value: ir.Value | None, *, quantised: bool) -> bool:
    """Whether a value is a quantised product plus a bias, which a session makes one operator of."""
    add = producer_of(value)
    if add is None or not is_op(add, "Add"):
        return False
    layers = [linear_of(operand.producer()) for operand in add.inputs if operand is not None and operand.producer()]
    return any(layer is not None and (quantised or layer.quantised is not None) for layer in layers)
