"""EmbedLayerNormalization: the norm behind the embeddings, in one operator with the tables.

It needs no taking apart: gain and bias are inputs of its own, and what the norm reads is its third output, where asked
for.
"""

from typing import Final

import onnx_ir as ir

from compacter_exporters.fused.parts import is_contrib

OPERATOR: Final = "EmbedLayerNormalization"
GAIN: Final = 5
BIAS: Final = 6
SUM: Final = 2
EPSILON: Final = 1e-12
"""Where the operator does not say."""

TABLES: Final = {0: 2, 1: 4, 8: 3}
"""Inputs that index a table, with the table's own: tokens, segments, positions."""


def expose_sum(node: ir.Node) -> None:
    """Let the operator put out the sum of the embeddings, if it does not yet."""
    if is_contrib(node, OPERATOR) and (len(node.outputs) <= SUM or not node.outputs[SUM].name):
        node.resize_outputs(SUM + 1)
        y, total = node.outputs[0], node.outputs[SUM]
        total.name, total.type, total.shape = f"{y.name}/sum", y.type, y.shape


def hide_sum(node: ir.Node) -> None:
    """Take that output away again, where nothing reads it."""
    if is_contrib(node, OPERATOR) and len(node.outputs) > SUM:
        total = node.outputs[SUM]
        if str(total.name).endswith("/sum") and not total.uses() and not total.is_graph_output():
            node.resize_outputs(SUM)
