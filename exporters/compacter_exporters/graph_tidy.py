"""What every exported backbone has in common, whichever exporter made it."""

import re
from collections.abc import Mapping

import onnx_ir

AXES = ("batch", "sequence")
_STACK_TRACE = "pkg.torch.onnx.stack_trace"


def name_axes(graph: onnx_ir.Graph) -> None:
    """Give the dynamic axes their names, in place of the tracer's (`s18`), wherever the graph mentions them."""
    names = {
        str(dim): name
        for value in graph.inputs
        for dim, name in zip(value.shape or (), AXES, strict=False)
        if isinstance(dim, onnx_ir.SymbolicDim)
    }
    for value in [*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)]:
        if value.shape is not None:
            value.shape = onnx_ir.Shape([_renamed(dim, names) for dim in value.shape])


def drop_stack_traces(graph: onnx_ir.Graph) -> None:
    """Remove the tracer's stack traces: they name files of the machine that exported, and differ between machines."""
    for node in graph.all_nodes():
        node.metadata_props.pop(_STACK_TRACE, None)


def _renamed(dim: int | onnx_ir.SymbolicDim, names: Mapping[str, str]) -> int | str | None:
    if isinstance(dim, int):
        return dim
    return None if dim.value is None else re.sub(r"\w+", lambda word: names.get(word[0], word[0]), str(dim.value))
