"""What every exported backbone has in common, whichever exporter made it."""

from collections.abc import Mapping

import onnx_ir

_STACK_TRACE = "pkg.torch.onnx.stack_trace"


def drop_stack_traces(graph: onnx_ir.Graph) -> None:
    """Remove the tracer's stack traces: they name files of the machine that exported, and differ between machines."""
    for node in graph.all_nodes():
        node.metadata_props.pop(_STACK_TRACE, None)


def fix_axes(graph: onnx_ir.Graph, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """State all axes but the first of these inputs, which a model cannot vary: channels, height and width of images."""
    for value in graph.inputs:
        shape = shapes.get(str(value.name))
        if shape is not None and value.shape is not None:
            value.shape = onnx_ir.Shape([value.shape[0], *shape[1:]])
