"""Residual sums that no session fuses with the norm behind them.

ONNX Runtime fuses Add and LayerNormalization into SkipLayerNormalization when it loads a graph, and its kernel for CPUs
may take longer than both apart. No file can ask a session to leave that out, but the fusion looks for Add: Sum of the
same two values gives the same bits and is left alone.
"""

from collections.abc import Iterable

import onnx_ir as ir

from compacter_exporters.graph import constant_of, is_op
from compacter_exporters.norms import find_norms


def keep_sums_apart(model: ir.Model) -> None:
    """Write the sums that layer norms read as Sum instead of Add (ONX-52). A model without such sums stays as it is.

    Args:
        model: changed, its branches included; fused operators are taken apart.
    """
    write_apart(sums_before_norms(model))


def sums_before_norms(model: ir.Model) -> list[ir.Node]:
    """The Adds of two values, none of them constant, that layer norms read, in all graphs of a model."""
    norms = (norm for graph in model.graphs() for norm in find_norms(graph))
    nodes = (norm.input.producer() for norm in norms if norm.is_centred)
    return [
        node
        for node in nodes
        if node is not None and is_op(node, "Add") and all(constant_of(value) is None for value in node.inputs)
    ]


def write_apart(sums: Iterable[ir.Node]) -> None:
    """Write these Adds as Sum: the same bits, and no session looks for it."""
    for node in sums:
        node.op_type = "Sum"
