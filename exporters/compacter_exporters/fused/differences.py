"""A sum written as a difference: r - (-h) in the place of r + h, bit for bit the same, and no session fuses it.

Nothing is computed for the sign: h = u + v, where v is made of a constant whose sign is turned around.

    -h = (-b) - u           h = u + b, b a constant vector
    -h = ((-b) - w) - u     h = u + (b + w), as an open graph adds the bias of an adapter to that of a linear
    -h = a (-W) - u         h = u + a W, W a constant matrix of a graft

Rounding to nearest is symmetric, so that every product and every sum has the bits it would have, with the other sign.
"""

from collections.abc import Sequence
from typing import Final

import onnx_ir as ir

from compacter_exporters.emitter import OWN_PREFIX
from compacter_exporters.fused.pair_sums import write_as_sum
from compacter_exporters.fused.parts import Origin, Parts, only_reader, part, take_after
from compacter_exporters.graph import Constant, constant_of, is_op, producer_of
from compacter_exporters.rewire import drop_unused

_SUFFIX: Final = "/negated"
_VECTOR: Final = 1


class Difference:
    """y = r - (-h): two Adds."""

    def takes(self, node: ir.Node) -> bool:
        """A Sub of what is the negative of a sum by a constant in it."""
        return is_op(node, "Sub") and negative_of(node.inputs[1], node) is not None

    def parts(self, node: ir.Node, stem: str) -> Parts:
        """Add of a vector or a product, Add of r."""
        y, (r, negative) = node.outputs[0], node.inputs
        found = negative_of(negative, node)
        if r is None or negative is None or found is None:  # `takes` says so
            raise TypeError("no difference")
        v, u = found
        graph, product = _graph_of(node), v.producer()
        nodes: list[ir.Node] = []
        if is_vector(v) or product is None:
            v = opposite(graph, v)
        else:
            first, second = product.inputs[0], product.inputs[1]
            if first is None or second is None:  # both kinds have two operands
                raise TypeError("no product")
            if is_op(product, "MatMul"):
                nodes.append(part("MatMul", [first, opposite(graph, second)], f"{stem}/up", negative))
            else:  # under its own name, by which open graphs know it
                nodes.append(part("Add", [opposite(graph, first), second], str(v.name), v))
            v = nodes[0].outputs[0]
        nodes.append(part("Add", [u, v], f"{stem}/adapted", negative))
        nodes.append(part("Add", [r, nodes[-1].outputs[0]], f"{stem}/sum", y))
        return Parts(nodes, {y: nodes[-1].outputs[0]})

    def beside(self, node: ir.Node, stem: str) -> Sequence[ir.Node]:
        """The sum h."""
        negative = node.inputs[1]
        return [] if negative is None else [part("Neg", [negative], f"{stem}/adapted", negative)]

    def together(self, last: ir.Node, origin: Origin) -> ir.Node | None:
        """A difference again, or a Sum where the operands are others."""
        take_after(last, origin)
        before = origin.inputs[1]
        return write_as_difference(last, None if before is None else before.name) or write_as_sum(last)


def write_as_difference(add: ir.Node, name: str | None = None) -> ir.Node | None:
    """Write y = r + h as r - (-h), where h = u + b with a constant vector b of the same graph and nothing else reads h.

    (A branch would hide a constant of the graph around it if its own had that name, when the sign is turned back.)

    Args:
        add: the sum.
        name: of -h.

    Returns:
        The node, changed; None, and nothing is changed, where there is no such h.
    """
    graph = add.graph
    if not isinstance(graph, ir.Graph) or not is_op(add, "Add"):
        return None
    for index, h in enumerate(add.inputs):
        inner, r = producer_of(h), add.inputs[1 - index]
        if h is None or r is None or inner is None or not is_op(inner, "Add") or only_reader(h) is not add:
            continue
        for u, v in (tuple(inner.inputs), tuple(reversed(inner.inputs))):
            negative = None if u is None or v is None or constant_of(u) is not None else _negative(graph, v, inner)
            if u is None or negative is None:
                continue
            difference = part("Sub", [negative, u], name or f"{h.name}{_SUFFIX}", h)
            difference.metadata_props.update(inner.metadata_props)
            graph.insert_before(add, difference)
            subtract(add, r, difference.outputs[0])
            return add
    return None


def _negative(graph: ir.Graph, v: ir.Value, reader: ir.Node) -> ir.Value | None:
    """-v, where v is a constant vector b of this graph, or b + w which nobody else reads; else None."""
    if is_vector(v):
        # The digest of a graft's constant is written down (ONX-18): it stays as it is.
        is_free = (v.producer() or v).graph is graph and not str(v.name).startswith(OWN_PREFIX)
        return opposite(graph, v) if is_free else None
    node = v.producer()
    if node is None or not is_op(node, "Add") or only_reader(v) is not reader:
        return None
    b, w = node.inputs[0], node.inputs[1]
    if b is None or w is None or not is_vector(b) or is_vector(w):
        return None
    negative = _negative(graph, b, node)
    if negative is None:
        return None
    difference = part("Sub", [negative, w], str(v.name), v)
    difference.name = node.name
    difference.metadata_props.update(node.metadata_props)
    graph.insert_before(reader, difference)
    return difference.outputs[0]


def subtract(add: ir.Node, r: ir.Value, negative: ir.Value) -> None:
    """Write y = r + h as r - negative, where the value is -h, and drop what computed h unless it is read."""
    before = [value for value in add.inputs if value is not None]
    add.op_type = "Sub"
    add.replace_input_with(0, r)
    add.replace_input_with(1, negative)
    for h in before:
        if h is not r:
            drop_unused(h)


def negative_of(value: ir.Value | None, reader: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """The pair v, u where the value is v - u and nobody else reads it, v as `Difference` takes it."""
    node = producer_of(value)
    if value is None or node is None or not is_op(node, "Sub") or only_reader(value) is not reader:
        return None
    v, u = node.inputs[0], node.inputs[1]
    if v is None or u is None or constant_of(u) is not None:
        return None
    return (v, u) if is_vector(v) or (only_reader(v) is node and _is_negative(v)) else None


def _is_negative(v: ir.Value) -> bool:
    """Whether a value is a product with a graft's constant, or a constant vector minus something."""
    node = v.producer()
    if node is None or not is_op(node, "MatMul", "Sub"):
        return False
    first, second = node.inputs[0], node.inputs[1]
    if is_op(node, "Sub"):
        return first is not None and is_vector(first)
    return second is not None and second.is_initializer() and str(second.name).startswith(OWN_PREFIX)


def is_vector(value: ir.Value) -> bool:
    """Whether a value is a constant vector, of more than one number; an input with a default is none."""
    constant = None if value.is_graph_input() else constant_of(value)
    return constant is not None and constant.view.ndim == _VECTOR and constant.view.size > 1


def opposite(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """An initialiser with a constant's values and the other sign; the opposite of the opposite has the first's name."""
    constant = constant_of(value)
    if constant is None:  # what calls this has seen one
        raise TypeError("no constant")
    name = str(value.name)
    name = name.removesuffix(_SUFFIX) if name.endswith(_SUFFIX) else f"{name}{_SUFFIX}"
    array = -constant.exact()
    while (known := graph.initializers.get(name)) is not None:
        same = None if known.is_graph_input() else constant_of(known)
        if same is not None and same.view.shape == array.shape and same.exact().tobytes() == array.tobytes():
            return known
        name += "/again"
    return _initialiser(graph, name, Constant(array, constant.dtype))


def _initialiser(graph: ir.Graph, name: str, constant: Constant) -> ir.Value:
    tensor = ir.Tensor(constant.view, constant.dtype, name=name)
    value = ir.val(name, constant.dtype, list(constant.view.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def _graph_of(node: ir.Node) -> ir.Graph:
    graph = node.graph
    if not isinstance(graph, ir.Graph):  # only nodes of graphs are read
        raise TypeError("a node of no graph")
    return graph
