"""What ONNX demands of a graph and converters forget: nodes behind those they read from, outputs that are computed."""

import onnx_ir as ir

from compacter_core.errors import CompacterError, ErrorCode


def put_in_order(model: ir.Model) -> None:
    """Sort the nodes of a model, its branches included, unless they are sorted."""
    if not all(map(_is_sorted, model.graphs())):
        model.graph.sort()


def check_outputs(model: ir.Model) -> None:
    """Check that every output of a model, and of a branch in it, is computed there.

    ONNX Runtime's fp16 converter renames what branches compute, and not what they put out, where the model's outputs
    have the same names. No runtime loads what it writes then.

    Raises:
        CompacterError: E005.
    """
    for graph in model.graphs():
        for value in graph.outputs:
            if value.producer() is None and not value.is_initializer() and not value.is_graph_input():
                raise CompacterError(
                    ErrorCode.E005,
                    "a graph of the model, or a branch in it, puts out a value that nothing in it computes",
                    value=value.name,
                    expected="a model that a runtime can load",
                    remedy="A converter broke it: convert the separate graphs, without branches, or graft before.",
                )


def _is_sorted(graph: ir.Graph) -> bool:
    """Whether every node stands behind those that it, or a branch of it, reads from."""
    seen: set[ir.Node] = set()
    for node in graph:
        within = [one for attribute in node.attributes.values() for one in _nodes_of(attribute)]
        makers = {value.producer() for one in (node, *within) for value in one.inputs if value is not None}
        if any(maker is not None and maker.graph is graph and maker not in seen for maker in makers):
            return False
        seen.add(node)
    return True


def _nodes_of(attribute: ir.Attr) -> list[ir.Node]:
    """The nodes of a branch, and of branches in it."""
    return list(attribute.as_graph().all_nodes()) if attribute.type is ir.AttributeType.GRAPH else []
