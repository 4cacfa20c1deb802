"""Layer norms whose gain and bias are each row's own: applied behind the norm, which then has a gain of ones.

    N(x) = (x - mean) / sqrt(variance + eps) * gain + bias

ONNX Runtime's kernel for CPUs vectorises a gain that all rows share. With another one in each row it takes three times
as long, more than the shared kernel and two passes for gain and bias do. No rounding is added: a product with 1 is
exact (NUM-15).
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.linkage.bank import bank_input
from compacter_exporters.emitter import Emitter
from compacter_exporters.graph import is_op, other_input
from compacter_exporters.linkage.bank_rows import Rows
from compacter_exporters.linkage.static import take_place
from compacter_exporters.rewire import redirect

_OPERATOR: Final = "LayerNormalization"
_GAIN, _BIAS = 1, 2
_PREFIX: Final = bank_input("norms")
_SCALED, _SHIFTED = "scaled", "shifted"


def scale_behind_norms(rows: Rows, model: ir.Model, by_row: Mapping[ir.Value, int]) -> None:
    """Apply the rows' gains and biases behind every LayerNormalization that reads one of them.

    Args:
        rows: the rows' tensors.
        model: its graphs are changed.
        by_row: sizes of the rows' tensors.
    """
    for graph in model.graphs():
        for node in list(graph):
            if is_op(node, _OPERATOR) and any(value in by_row for value in node.inputs[_GAIN:]):
                _scale_behind(rows, graph, node, by_row)


def _scale_behind(rows: Rows, graph: ir.Graph, node: ir.Node, by_row: Mapping[ir.Value, int]) -> None:
    y = node.outputs[0]
    uses = tuple(y.uses())
    emitter = Emitter(graph, f"{_PREFIX}/{y.name}", rows.dtype, {"compacter.part": "norm"}, home=rows.graph)
    gain, bias = node.inputs[_GAIN], node.inputs[_BIAS] if len(node.inputs) > _BIAS else None
    result = y
    if gain is not None and gain in by_row:
        size = by_row[gain]
        node.replace_input_with(_GAIN, rows.emitter.constant(f"ones/{size}", np.ones(size)))
        result = emitter.op("Mul", [result, gain], _SCALED, like=y)
    if bias is not None:
        node.resize_inputs(_BIAS)
        result = emitter.op("Add", [result, bias], _SHIFTED, like=y)
    graph.insert_after(node, emitter.nodes)
    redirect(graph, y, result, uses)


def scale_in_norms(graph: ir.Graph) -> None:
    """Undo `scale_behind_norms` in a copy whose gains and biases are constants; the results keep their names."""
    for node in [node for node in graph if str(node.name).startswith(f"{_PREFIX}/")]:
        x = node.inputs[0]
        norm = None if x is None else x.producer()
        operand = None if x is None else other_input(node, x)
        if norm is None or not is_op(norm, _OPERATOR) or operand is None:
            continue
        index = _GAIN if is_op(node, "Mul") else _BIAS
        norm.resize_inputs(max(len(norm.inputs), index + 1))
        norm.replace_input_with(index, operand)
        take_place(graph, node.outputs[0], norm.outputs[0])
        graph.remove(node, safe=True)
