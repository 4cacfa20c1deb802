"""Backbones whose graph is in the branches of an If, as a merged decoder's."""

import onnx
from onnx import TensorProto, helper


def in_branches(model: onnx.ModelProto, *, condition: str = "flag", depth: int = 1) -> onnx.ModelProto:
    """The model's nodes in both branches of an If, `depth` Ifs deep; initialisers and inputs stay outside.

    Args:
        model: with one output.
        condition: the name of the boolean input [1], or `computed` for a condition that no input gives alone.
        depth: of the Ifs.
    """
    graph = model.graph
    nodes, output = list(graph.node), graph.output[0]
    for level in range(depth):
        flag = f"{condition}{level}"
        if condition == "computed":
            decision = helper.make_node("IsNaN", ["number"], [f"{flag}_value"])
            graph.initializer.append(helper.make_tensor("number", TensorProto.FLOAT, [], [0.0]))
        else:
            decision = helper.make_node("Squeeze", [flag], [f"{flag}_value"])
            graph.input.append(helper.make_tensor_value_info(flag, TensorProto.BOOL, [1]))
        branches = {f"{name}_branch": _branch(nodes, f"{name}{level}", output) for name in ("then", "else")}
        nodes = [decision, helper.make_node("If", [f"{flag}_value"], [output.name], name=f"if{level}", **branches)]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def _branch(nodes: list[onnx.NodeProto], prefix: str, output: onnx.ValueInfoProto) -> onnx.GraphProto:
    """A graph of these nodes, whose values have names of their own."""
    made = {name for node in nodes for name in node.output}
    result = onnx.ValueInfoProto()
    result.CopyFrom(output)
    result.name = f"{prefix}/{output.name}"
    return helper.make_graph([_renamed(node, prefix, made) for node in nodes], prefix, [], [result])


def _renamed(node: onnx.NodeProto, prefix: str, made: set[str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for names in (copy.input, copy.output):
        names[:] = [f"{prefix}/{name}" if name in made else name for name in names]
    return copy
