"""What one fused operator is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import onnx_ir as ir

from compacter_exporters.operators import CONTRIB

FUSED: Final = "compacter.fused"
"""Key of what is remembered, in memory only, about the node that stands for a fused one: an `Origin`."""

ABSORBED: Final = "compacter.absorbed"
"""Key of what is remembered, in memory only, about a residual sum that a fused operator computes: a `FusedSum`."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Standard nodes that compute what a fused one does.

    Args:
        nodes: in order; the last one stands for the fused node.
        results: the values of theirs that take the places of the fused node's outputs, by these.
    """

    nodes: Sequence[ir.Node]
    results: Mapping[ir.Value, ir.Value]


SUFFIXES: Final = ("activation", "adapted", "biased", "gemm", "norm", "product", "sum", "up")
"""Ends of the parts' names."""


class Rule(Protocol):
    """How one kind of fused operator is taken apart and put together again.

    A node reads its inputs from the moment it is made, so that nodes are made only to be put into the graph.
    """

    def takes(self, node: ir.Node) -> bool:
        """Whether the node is of this kind."""

    def parts(self, node: ir.Node, stem: str) -> Parts:
        """What a node of this kind is made of; names begin with the stem."""

    def beside(self, node: ir.Node, stem: str) -> Sequence[ir.Node]:
        """Nodes that compute what `parts` does besides the results, under the same names, from what the node reads."""

    def together(self, last: ir.Node, origin: "Origin") -> ir.Node | None:
        """The fused node that does what `last`, the last of the parts of `origin`, and those before it do now.

        Nothing but the graph's nodes tells what these are: between the two calls they were changed. The new node is in
        the graph, with every reader; None, and nothing is changed, if they have no longer the shape it takes.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The fused node that a standard one stands for.

    Args:
        rule: of its kind.
        node: the node, which reads nothing any more.
        inputs: what it read.
    """

    rule: Rule
    node: ir.Node
    inputs: Sequence[ir.Value | None]


def is_contrib(node: ir.Node | None, *op_types: str) -> bool:
    """Whether the node is one of these operators of ONNX Runtime's own."""
    return node is not None and node.domain == CONTRIB and node.op_type in op_types


def part(op_type: str, inputs: Sequence[ir.Value], name: str, like: ir.Value, **attributes: float) -> ir.Node:
    """A standard node with one output of that name, of the type and shape of another value."""
    node = ir.node(op_type, inputs, attributes, name=name)
    output = node.outputs[0]
    output.name, output.type, output.shape = name, like.type, like.shape
    return node


def fused_again(origin: Origin, inputs: Sequence[ir.Value | None], outputs: int) -> ir.Node:
    """A node like the one there was, with other inputs and so many outputs."""
    node = origin.node
    return ir.Node(
        node.domain,
        node.op_type,
        inputs,
        node.attributes.values(),
        num_outputs=outputs,
        name=node.name,
        metadata_props=dict(node.metadata_props),
    )


def join(first: ir.Node, last: ir.Node, origin: Origin, inputs: Sequence[ir.Value | None]) -> ir.Node | None:
    """One node like the fused one there was in the place of two, of which the last alone reads the first."""
    graph = last.graph
    if not isinstance(graph, ir.Graph) or only_reader(first.outputs[0]) is not last:
        return None
    node = fused_again(origin, inputs, 1)
    graph.insert_before(last, node)
    replace_uses(graph, last.outputs[0], node.outputs[0])
    graph.remove([last, first], safe=True)
    return node


def replace_uses(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Let everything read `new` instead of `old`, under the name of `old`."""
    for node, index in tuple(old.uses()):
        node.replace_input_with(index, new)
    for position, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[position] = new
    name = old.name
    old.name, new.name = f"{name}/fused", name
    new.type, new.shape = old.type or new.type, old.shape or new.shape


def take_after(node: ir.Node, origin: Origin) -> None:
    """Give a standard node the name and the labels of the one it stands for."""
    node.name = origin.node.name
    node.metadata_props.update(origin.node.metadata_props)


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone reads a value, once, if there is one and the value is no output."""
    uses = tuple(value.uses())
    return uses[0][0] if len(uses) == 1 and not value.is_graph_output() else None
