"""Residual sums that no session fuses with the norm behind them.

ONNX Runtime fuses Add and LayerNormalization into SkipLayerNormalization when it loads a graph, and its kernel for CPUs
may take longer than both apart. No file can ask a session to leave that out, but the fusion looks for Add: Sum of the
same two values gives the same bits and is left alone.
"""

from collections.abc import Iterator

import onnx_ir as ir

from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.graph import constant_of, is_op
from compacter_exporters.norms import find_norms


def keep_sums_apart(model: ir.Model) -> None:
    """Write the sums that layer norms read as Sum instead of Add.

    Args:
        model: changed, its branches included; fused operators are taken apart.

    Raises:
        CompacterError: E605 if there is no such sum.
    """
    sums = list(_sums(model))
    if not sums:
        raise CompacterError(
            ErrorCode.E605,
            "no residual sum stands before a layer norm",
            expected="a layer norm that reads the Add of two values",
        )
    for node in sums:
        node.op_type = "Sum"


def _sums(model: ir.Model) -> Iterator[ir.Node]:
    norms = (norm for graph in model.graphs() for norm in find_norms(graph))
    for node in (norm.input.producer() for norm in norms if norm.is_centred):
        if node is not None and is_op(node, "Add") and all(constant_of(value) is None for value in node.inputs):
            yield node
