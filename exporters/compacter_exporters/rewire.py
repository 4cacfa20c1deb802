"""Changing who reads what in a graph, and cleaning up afterwards."""

from collections.abc import Iterable

import onnx_ir as ir


def redirect(graph: ir.Graph, old: ir.Value, new: ir.Value, uses: Iterable[tuple[ir.Node, int]]) -> None:
    """Let the given uses of `old` read `new`; where `old` is an output of the graph, `new` takes its place and name."""
    for node, index in uses:
        node.replace_input_with(index, new)
    for position, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[position] = new
            old.name, new.name = f"{new.name}/before", old.name
            if new.shape is None:
                new.shape = old.shape


def read_shape_of(old: ir.Value, new: ir.Value) -> None:
    """Let what reads the shape of `old` read that of `new`, which has the same."""
    for node in old.consumers():
        if node.domain == "" and node.op_type == "Shape":
            node.replace_input_with(0, new)


def replace_input(node: ir.Node, index: int, value: ir.Value) -> None:
    """Let one input of one node read `value`, and remove what nobody reads any more."""
    old = node.inputs[index] if index < len(node.inputs) else None
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)
    drop_unused(old)


def drop_unused(value: ir.Value | None) -> None:
    """Remove a constant, and the nodes it came through, unless something still reads it."""
    if value is None or value.uses() or value.is_graph_output() or value.is_graph_input():
        return
    if value.is_initializer() and value.graph is not None:
        value.graph.initializers.pop(str(value.name))
        return
    node = value.producer()
    if node is None or node.graph is None or any(output.uses() for output in node.outputs):
        return
    sources = [source for source in node.inputs if source is not None]
    node.graph.remove(node, safe=True)
    for source in sources:
        drop_unused(source)
