"""A copy of an open graph that reads as if one adapter were merged into it, so that verification finds its way.

Only places are looked up in the copy; every value that is compared comes from a run of the graph as it is. Values keep
their names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.layout import Part
from compacter_exporters.graph import constant_of, consumers, is_op, other_input, producer_of
from compacter_exporters.linears import linear_of
from compacter_exporters.linkage.swappable_head import HEAD_LABEL
from compacter_exporters.sites import FoundSite

_VECTOR = 1


@dataclass(frozen=True, slots=True, eq=False)
class BeforeBias:
    """A site whose adapter is added before the bias of its linear: o = (m + delta) + b.

    Args:
        product: m.
        bias: b.
        reads_product: whether the adapter reads m; else what the placement says.
        takes_up_bias: whether the bias of the up-projection is added to b instead of to each token's delta.
    """

    product: ir.Value
    bias: Array
    reads_product: bool
    takes_up_bias: bool


def bind(graph: ir.Graph, tensors: Mapping[str, Array]) -> None:
    """Turn every input with a default into a constant: the given tensor, or else the default.

    An empty default, which no layer of a backbone has, becomes one row or column of zeros.
    """
    for value in [value for value in graph.inputs if value.is_initializer()]:
        name, default = str(value.name), value.const_value
        array = tensors.get(name, None if default is None else default.numpy())
        if array is None:
            continue
        if array.size == 0:
            array = np.zeros([max(1, size) for size in array.shape], array.dtype)
        value.const_value = ir.Tensor(np.ascontiguousarray(array), name=name)
        value.shape = ir.Shape(array.shape)
        graph.inputs.remove(value)


def choose_heads(graph: ir.Graph, tensors: Iterable[str]) -> None:
    """Let every layer of the head that the adapter has be the adapter's alone, without the backbone's beside it."""
    given = {name for name in tensors if name.startswith(f"compacter/{Part.HEAD.value}/")}
    for node in list(graph):
        if node.metadata_props.get(HEAD_LABEL) != Part.HEAD.value or not is_op(node, "Slice"):
            continue
        chosen = node.outputs[0]
        joined = producer_of(node.inputs[0])
        own = None if joined is None else joined.inputs[0]
        if own is not None and any(name.startswith(f"{str(node.name).removesuffix('/chosen')}.") for name in given):
            take_place(graph, chosen, own)


def take_place(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Let everything read `new` instead of `old`, under the name of `old`."""
    name = old.name
    for node, index in tuple(old.uses()):
        node.replace_input_with(index, new)
    for position, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[position] = new
    old.name, new.name = f"{name}/replaced", name


def unfold(graph: ir.Graph, found: Mapping[str, FoundSite]) -> dict[str, BeforeBias]:
    """Let every adapter that is added before a bias read h = m + b and be added to h, as a plain one is."""
    return {site_id: done for site_id, one in found.items() if (done := _unfold(graph, one)) is not None}


def _unfold(graph: ir.Graph, one: FoundSite) -> BeforeBias | None:
    m = one.linear.product
    _sum_in_turn(graph, m)
    for total in consumers(m, "Add"):
        delta = other_input(total, m)
        readers = total.outputs[0].consumers()
        if delta is None or constant_of(delta) is not None or len(readers) != 1 or not is_op(readers[0], "Add"):
            continue
        last = readers[0]
        b, bu = _summands(other_input(last, total.outputs[0]))
        constant = constant_of(b)
        if b is None or constant is None or constant.view.ndim != _VECTOR:
            continue
        layer = linear_of(one.linear.node) or one.linear
        h = layer.output if layer.bias_add is not None else None
        reads_product = h is None and any(not is_op(node, "Add", "Shape") for node in m.consumers())
        if h is None:
            h = _linear_result(graph, total, m, b)
        last.replace_input_with(0, h)
        last.replace_input_with(1, delta if bu is None else _sum(graph, delta, bu, last))
        graph.remove(total, safe=True)
        return BeforeBias(m, constant.exact(), reads_product, takes_up_bias=bu is not None)
    return None


def _sum_in_turn(graph: ir.Graph, m: ir.Value) -> None:
    """Write o = m + (v + (b + bu)), as calls have it (LNK-22), as o = (m + v) + (b + bu)."""
    for last in consumers(m, "Add"):
        delta = producer_of(other_input(last, m))
        if delta is None or not is_op(delta, "Add"):
            continue
        for v, bias in (tuple(delta.inputs), tuple(reversed(delta.inputs))):
            if v is None or _summands(bias)[1] is None:
                continue
            total = ir.node("Add", [m, v], name=f"{m.name}/total")
            total.outputs[0].name, total.outputs[0].type, total.outputs[0].shape = f"{m.name}/total", m.type, m.shape
            graph.insert_before(last, [total])
            last.replace_input_with(0, total.outputs[0])
            last.replace_input_with(1, bias)
            graph.remove(delta, safe=True)
            break


def _summands(bias: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    """The operands b and bu, where a bank's bias is their sum; else b alone."""
    node = producer_of(bias)
    if node is None or not is_op(node, "Add") or any(constant_of(value) is None for value in node.inputs):
        return bias, None
    return node.inputs[0], node.inputs[1]


def _sum(graph: ir.Graph, delta: ir.Value, bu: ir.Value, before: ir.Node) -> ir.Value:
    """The delta that a plain adapter adds."""
    add = ir.node("Add", [delta, bu], name=f"{delta.name}/whole")
    add.outputs[0].name, add.outputs[0].type, add.outputs[0].shape = f"{delta.name}/whole", delta.type, delta.shape
    graph.insert_before(before, [add])
    return add.outputs[0]


def _linear_result(graph: ir.Graph, total: ir.Node, m: ir.Value, b: ir.Value) -> ir.Value:
    """The missing h = m + b, read by whoever read m."""
    add = ir.node("Add", [m, b], name=f"{m.name}/h")
    h = add.outputs[0]
    h.name, h.type, h.shape = f"{m.name}/h", m.type, m.shape
    for node, index in tuple(m.uses()):
        if node not in (total, add):
            node.replace_input_with(index, h)
    producer = m.producer()
    if producer is None:  # a MatMul
        raise TypeError("the product has no producer")
    graph.insert_after(producer, [add])
    return h
