"""SkipLayerNormalization and SkipSimplifiedLayerNormalization: a bias, a residual sum and a norm.

    total = x + skip + bias,  y = N(total);    outputs: y, two that inference does not use, and total where it is read

Which of x and skip is the residual stream differs between optimisers. The bias, where there is one, belongs to the one
that is a linear's product. Where a folded adapter stands between (v = m + p, p its up-projection's product), the bias
is c = bu' + b and belongs to p, as in the fold form: o = m + (p + c).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_exporters.fused.parts import (
    ABSORBED,
    Origin,
    Parts,
    fused_again,
    is_contrib,
    only_reader,
    part,
    replace_uses,
)
from compacter_exporters.graph import constant_of, is_op, producer_of
from compacter_exporters.linears import linear_of
from compacter_exporters.rewire import drop_unused

_EPSILON: Final = 1e-12
"""Of both operators, where they do not say."""

_OPERATORS: Final = {
    "SkipLayerNormalization": ("LayerNormalization", 4),
    "SkipSimplifiedLayerNormalization": ("SimplifiedLayerNormalization", 3),
}
"""The norm, and the position of the bias among the inputs."""

_BIAS_OF_NORM: Final = 3
_SUM: Final = 3
_MATRIX: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class FusedSum:
    """A residual sum inside a fused operator.

    Args:
        bias: what is added besides the two operands, [d], or None.
    """

    bias: Array | None


def fused_sum(total: ir.Value) -> FusedSum | None:
    """How a fused operator computes this residual sum, in a model that was taken apart; None where none does."""
    node = total.producer()
    found = None if node is None else node.meta.get(ABSORBED)
    return found if isinstance(found, FusedSum) else None


class SkipNorm:
    """Both operators."""

    def takes(self, node: ir.Node) -> bool:
        """Either, without the outputs that only training reads."""
        return is_contrib(node, *_OPERATORS) and not any(output.uses() for output in node.outputs[1:_SUM])

    def parts(self, node: ir.Node, stem: str) -> Parts:
        """Add of the bias, Add of the residual stream, norm."""
        norm, position = _OPERATORS[node.op_type]
        y, operands, bias = node.outputs[0], _operands(node), _bias_of(node)
        nodes: list[ir.Node] = []
        if bias is not None:
            owner = _owner(operands)
            nodes += _biased(operands[owner], bias, stem)
            operands[owner] = nodes[-1].outputs[0]
        total = part("Add", operands, f"{stem}/sum", y)
        constant = constant_of(bias)
        total.meta[ABSORBED] = FusedSum(None if constant is None else constant.exact().reshape(-1))
        epsilon = node.attributes.get("epsilon")
        constants = [value for value in node.inputs[2 : min(position, _BIAS_OF_NORM + 1)] if value is not None]
        last = part(
            norm,
            [total.outputs[0], *constants],
            f"{stem}/norm",
            y,
            axis=-1,
            epsilon=_EPSILON if epsilon is None else epsilon.as_float(),
        )
        results = {y: last.outputs[0]}
        if _puts_out_sum(node):
            results[node.outputs[_SUM]] = total.outputs[0]
        return Parts([*nodes, total, last], results)

    def beside(self, node: ir.Node, stem: str) -> Sequence[ir.Node]:
        """Add of the bias, and that of the residual stream unless the operator puts the sum out itself."""
        y, operands, bias = node.outputs[0], _operands(node), _bias_of(node)
        nodes: list[ir.Node] = []
        if bias is not None:
            owner = _owner(operands)
            name = "biased" if _adapted(operands[owner]) is None else "adapted"
            nodes.append(part("Add", [operands[owner], bias], f"{stem}/{name}", y))
            operands[owner] = nodes[-1].outputs[0]
        return nodes if _puts_out_sum(node) else [*nodes, part("Add", operands, f"{stem}/sum", y)]

    def together(self, last: ir.Node, origin: Origin) -> ir.Node | None:
        """Sum and norm, and the bias too where the operand that had one ends with the Add of a constant vector."""
        _, position = _OPERATORS[origin.node.op_type]
        total, graph = last.inputs[0], last.graph
        add = producer_of(total)
        if total is None or add is None or not is_op(add, "Add") or not isinstance(graph, ir.Graph):
            return None
        if add.graph is not graph or any(value is None or constant_of(value) is not None for value in add.inputs):
            return None
        if not all(_is_vector(value) for value in last.inputs[1:]):
            return None
        operands, bias = [value for value in add.inputs if value is not None], None
        if len(origin.inputs) > position and origin.inputs[position] is not None:
            for index, operand in enumerate(operands):
                freed = _free(operand, add) if bias is None else None
                if freed is not None:
                    operands[index], bias = freed
        inputs = [*operands, *last.inputs[1:]]
        if bias is not None:
            inputs += [None] * (position - len(inputs)) + [bias]
        return _build(graph, last, add, origin, inputs)


def _build(graph: ir.Graph, last: ir.Node, add: ir.Node, origin: Origin, inputs: list[ir.Value | None]) -> ir.Node:
    total = add.outputs[0]
    is_read = only_reader(total) is not last
    node = fused_again(origin, inputs, _SUM + 1 if is_read else 1)
    for unused in node.outputs[1:_SUM]:
        unused.name = ""
    graph.insert_before(add, node)
    replace_uses(graph, last.outputs[0], node.outputs[0])
    graph.remove(last, safe=True)
    if is_read:
        replace_uses(graph, total, node.outputs[_SUM])
    operands = tuple(add.inputs)
    graph.remove(add, safe=True)
    for operand in operands:
        drop_unused(operand)
    return node


def _operands(node: ir.Node) -> list[ir.Value]:
    """Both summands."""
    return [value for value in node.inputs[:2] if value is not None]


def _bias_of(node: ir.Node) -> ir.Value | None:
    _, position = _OPERATORS[node.op_type]
    return node.inputs[position] if len(node.inputs) > position else None


def _puts_out_sum(node: ir.Node) -> bool:
    return len(node.outputs) > _SUM and bool(node.outputs[_SUM].name)


def _owner(operands: list[ir.Value]) -> int:
    """Which operand a bias belongs to: the product of a linear, or one to which an adapter was added."""
    for index, value in enumerate(operands):
        if _is_product(value):
            return index
    for index, value in enumerate(operands):
        if _adapted(value) is not None:
            return index
    return 0


def _is_product(value: ir.Value | None) -> bool:
    """Whether a value is the product of a linear that has no bias yet."""
    linear = None if value is None else linear_of(value.producer())
    return linear is not None and linear.bias is None and linear.output is value


def _adapted(value: ir.Value) -> ir.Node | None:
    """The Add of an adapter's output to a linear's product, where the value is that and is read once."""
    node = value.producer()
    if node is None or not is_op(node, "Add") or only_reader(value) is None:
        return None
    return node if any(_is_product(operand) for operand in node.inputs) else None


def _biased(value: ir.Value, bias: ir.Value, stem: str) -> list[ir.Node]:
    """Nodes that end with the value plus the bias."""
    add = _adapted(value)
    if add is None:
        return [part("Add", [value, bias], f"{stem}/biased", value)]
    m, p = add.inputs[0], add.inputs[1]
    if m is None or p is None or not _is_up(p):
        return [part("Add", [value, bias], f"{stem}/adapted", value)]
    v = part("Add", [p, bias], f"{stem}/up", value)
    return [v, part("Add", [m, v.outputs[0]], f"{stem}/adapted", value)]


def _free(operand: ir.Value, add: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """The operand without the constant vector added in it, and that; the reverse of `_biased`."""
    node = operand.producer()
    if node is None or not is_op(node, "Add") or only_reader(operand) is not add:
        return None
    outer = _split(node)
    if outer is not None:
        return outer
    m, v = node.inputs[0], node.inputs[1]
    if m is None or v is None or not is_op(v.producer(), "Add") or only_reader(v) is not node:
        return None
    inner_node = v.producer()
    inner = None if inner_node is None else _split(inner_node)
    if inner is None or not _is_up(inner[0]) or not _is_product(m):
        return None
    joined = part("Add", [m, inner[0]], str(operand.name), operand)
    operand.name = f"{operand.name}/before"
    joined.metadata_props.update(node.metadata_props)
    joined.name = node.name
    if node.graph is not None:
        node.graph.insert_before(node, joined)
    return joined.outputs[0], inner[1]


def _split(add: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """Value and constant vector of an Add, if it has one."""
    first, second = add.inputs[0], add.inputs[1]
    if first is None or second is None:
        return None
    for value, constant in ((first, second), (second, first)):
        found = constant_of(constant)
        if found is not None and found.view.ndim == 1 and constant_of(value) is None:
            return value, constant
    return None


def _is_vector(value: ir.Value | None) -> bool:
    """Whether a gain or bias is the same for all rows, as the operators want it."""
    return value is not None and value.shape is not None and len(value.shape) == 1


def _is_up(value: ir.Value) -> bool:
    """Whether the value is a bare product with a constant matrix."""
    node = value.producer()
    constant = constant_of(node.inputs[1]) if node is not None and is_op(node, "MatMul") else None
    return constant is not None and constant.view.ndim == _MATRIX
