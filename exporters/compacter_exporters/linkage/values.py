"""New inputs and integer constants of a graph that is being opened."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.linkage.description import Description
from compacter_exporters.emitter import Emitter


def type_of(description: Description) -> ir.DataType:
    """The type of an open graph's inputs for adapters."""
    return ir.DataType.from_numpy(description.dtype.memory)


def open_input(graph: ir.Graph, name: str, default: Array, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
    """A new input of the graph that has a default."""
    array = np.ascontiguousarray(default, dtype.numpy())
    value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
    value.const_value = ir.Tensor(array, dtype, name=name)
    graph.register_initializer(value)
    graph.inputs.append(value)
    return value


def open_zeros(
    graph: ir.Graph, name: str, dtype: ir.DataType, shape: Sequence[int | str], sizes: Mapping[str, int] | None = None
) -> ir.Value:
    """A new input of the graph that has a default of zeros: by default no size but those given by name."""
    default = [size if isinstance(size, int) else (sizes or {}).get(size, 0) for size in shape]
    return open_input(graph, name, np.zeros(default), dtype, shape)


def integers_of(emitter: Emitter) -> Emitter:
    """An emitter of integers whose nodes are those of another emitter."""
    return Emitter(
        emitter.graph, emitter.prefix, ir.DataType.INT64, emitter.labels, nodes=emitter.nodes, home=emitter.home
    )
