"""The graphs of a model: the main one, and the branches of its If nodes, down to any depth.

A merged decoder holds the pass without a cache and the one with it as the two branches of an If. A branch sees the
values of the graph around it. To run one with more outputs than the If has, it is put in the place of its If.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.graph import is_op

_BRANCHES: Final = {"then_branch": True, "else_branch": False}
_PASSING: Final = ("Identity", "Squeeze", "Reshape", "Unsqueeze", "Cast")


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One graph of a model.

    Args:
        graph: its nodes.
        path: the branches that lead to it from the main graph, outermost first: positions of the Ifs among the nodes of
            their graphs, and names of the branches.
    """

    graph: ir.Graph
    path: tuple[tuple[int, str], ...] = ()

    @property
    def label(self) -> str:
        """A name for it; empty for the main graph."""
        return "/".join(branch for _, branch in self.path)


def regions_of(model: ir.Model) -> list[Region]:
    """The graphs of a model, each after the one around it."""
    return list(_within(Region(model.graph)))


def _within(region: Region) -> Iterator[Region]:
    yield region
    for position, node in enumerate(region.graph):
        for branch in _BRANCHES if is_op(node, "If") else ():
            yield from _within(Region(node.attributes[branch].as_graph(), (*region.path, (position, branch))))


def inline(model: ir.Model, path: tuple[tuple[int, str], ...]) -> dict[str, Array]:
    """Put the branches of a path in the place of their Ifs.

    Args:
        model: changed; its main graph then holds what the region at the path held.
        path: of a region.

    Returns:
        The inputs that made the model as it was take these branches, by name.

    Raises:
        CompacterError: E604 for a branch that no input of the model decides alone.
    """
    chosen: dict[str, Array] = {}
    offset = 0
    for position, branch in path:
        node = model.graph[position + offset]
        offset += position
        chosen |= _decided_by(node, taken=_BRANCHES[branch])
        body = node.attributes[branch].as_graph()
        _move(model.graph, node, body)
    return chosen


def _move(graph: ir.Graph, node: ir.Node, body: ir.Graph) -> None:
    """The nodes and initialisers of a branch, into the graph of its If."""
    outputs, nodes = list(body.outputs), list(body)
    body.outputs.clear()  # first, since an initialiser may be one
    for value in list(body.initializers.values()):
        body.initializers.pop(str(value.name))
        graph.register_initializer(value)
    body.remove(nodes)
    graph.insert_before(node, nodes)
    for old, new in zip(node.outputs, outputs, strict=True):
        for reader, index in tuple(old.uses()):
            reader.replace_input_with(index, new)
        for position, output in enumerate(graph.outputs):
            if output is old:
                graph.outputs[position] = new
                old.name, new.name = f"{new.name}/before", old.name
                new.shape = new.shape or old.shape
    graph.remove(node, safe=True)


def _decided_by(node: ir.Node, *, taken: bool) -> dict[str, Array]:
    value = node.inputs[0]
    while value is not None and is_op(value.producer(), *_PASSING):
        producer = value.producer()
        value = None if producer is None else producer.inputs[0]
    if value is None or not value.is_graph_input() or value.name is None or value.dtype is not ir.DataType.BOOL:
        raise CompacterError(
            ErrorCode.E604,
            "a branch of the graph depends on more than one input",
            value=node.name,
            expected="an If whose condition is a boolean input of the model",
            remedy="Export the backbone as separate graphs without branches.",
        )
    shape = tuple(dim if isinstance(dim, int) else 1 for dim in (value.shape or ()))
    return {value.name: np.full(shape, taken)}
