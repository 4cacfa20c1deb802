"""Making new nodes and constants for a graft, all named, labelled and digested in one place."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_exporters.graph import numpy_type

OWN_PREFIX: Final = "compacter/"
"""With it begin the names of all nodes and constants that a graft made (ONX-14)."""


def tensor_digest(array: Array) -> str:
    """SHA-256 of a tensor's bytes in the order of the file formats: row-major, little-endian."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(little.tobytes()).hexdigest()


@dataclass(slots=True, eq=False)
class Emitter:
    """Collects the nodes of one part of an adapter; the caller decides where they go in the graph.

    Args:
        graph: the graph that the nodes are for.
        prefix: start of every name: `compacter/<adapter>/<part>`.
        dtype: type of all constants.
        labels: metadata of every node.
        nodes: the nodes made so far, in order.
        initialisers: SHA-256 of each constant made so far, by its name.
        home: the graph that receives the constants at once, where it is not `graph` itself but one around it.
        constants: start of the constants' names, where it is another.
    """

    graph: ir.Graph
    prefix: str
    dtype: ir.DataType
    labels: Mapping[str, str]
    nodes: list[ir.Node] = field(default_factory=list)
    initialisers: dict[str, str] = field(default_factory=dict)
    home: ir.Graph | None = None
    constants: str | None = None

    def constant(self, name: str, values: Array) -> ir.Value:
        """An initialiser with these values, rounded once to the graph's type: a new one, or that of another branch."""
        array = np.ascontiguousarray(values.astype(numpy_type(self.dtype)))
        full = f"{self.constants or self.prefix}/{name}"
        digest = tensor_digest(array)
        home = self.home or self.graph
        known = home.initializers.get(full)
        if known is not None and known.const_value is not None:
            if tensor_digest(known.const_value.numpy()) == digest:
                self.initialisers[full] = digest
                return known
            full = f"{full}/{digest[:8]}"
        value = ir.val(full, self.dtype, list(array.shape), const_value=ir.Tensor(array, self.dtype, name=full))
        home.register_initializer(value)
        self.initialisers[full] = digest
        return value

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        name: str,
        *,
        like: ir.Value | None = None,
        last: int | None = None,
        attributes: Mapping[str, int | float | str | Sequence[int] | ir.TensorProtocol] | None = None,
        domain: str = "",
    ) -> ir.Value:
        """A new node and its output.

        Args:
            op_type: an operator with one output.
            inputs: its inputs.
            name: of the node and of its output, within the prefix.
            like: a value whose shape the output has, where it is known.
            last: the last dimension of the output where it differs.
            attributes: the operator's.
            domain: the operator's, by default that of the standard.
        """
        node = ir.node(
            op_type,
            inputs,
            attributes,
            domain=domain,
            name=f"{self.prefix}/{name}",
            metadata_props=dict(self.labels),
        )
        output = node.outputs[0]
        output.name = f"{self.prefix}/{name}"
        output.type = ir.TensorType(self.dtype)
        if like is not None and like.shape is not None:
            dims = list(like.shape)
            output.shape = ir.Shape(dims if last is None else [*dims[:-1], last])
        self.nodes.append(node)
        return output
