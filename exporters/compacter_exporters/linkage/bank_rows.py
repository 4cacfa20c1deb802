"""The bank's tensors in a graph: inputs with a default, and from them the entries that the batch's rows picked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.linkage.bank import ADAPTER_ID, bank_input
from compacter_exporters.emitter import Emitter
from compacter_exporters.linkage.opened import Place
from compacter_exporters.linkage.values import integers_of, open_input

ROWS: Final = "rows"
"""Name of the node that gives the rows an axis of their own."""
_TOKENS: Final = 3
"""Axes of rows, tokens and features."""


@dataclass(slots=True, eq=False)
class Rows:
    """What all sites share.

    Args:
        graph: the model's main graph.
        emitter: for nodes that precede all others.
        dtype: type of the bank's tensors.
        ids: the input `adapter_id` [B], -1 for no adapter.
        entry: ids + 1, the places on the tensors' first axis.
        shapes: those of `shape_of_any` made so far.
    """

    graph: ir.Graph
    emitter: Emitter
    dtype: ir.DataType
    ids: ir.Value
    entry: ir.Value
    shapes: dict[int, ir.Value] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: ir.Graph, dtype: ir.DataType) -> "Rows":
        """Add the input `adapter_id`; its dimension has the name that the batch has in the graph."""
        ids = ir.Value(name=ADAPTER_ID, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([batch_of(graph)]))
        emitter = Emitter(graph, bank_input("rows"), dtype, {"compacter.part": "bank"})
        integers = integers_of(emitter)
        entry = integers.op("Add", [ids, integers.constant("one", np.array(1))], "entry")
        graph.inputs.append(ids)
        return cls(graph, emitter, dtype, ids, entry)

    def open(self, name: str, neutral: Array, free: Mapping[int, str] | None = None) -> ir.Value:
        """A new bank tensor [E, ...].

        Args:
            name: of the tensor in the bank.
            neutral: entry 0, the only one by default.
            free: names of dimensions of the entry that may change.
        """
        shape: list[int | str] = ["entries", *neutral.shape]
        for axis, dimension in (free or {}).items():
            shape[axis + 1] = dimension
        return open_input(self.graph, bank_input(name), neutral[np.newaxis], self.dtype, shape)

    def pick(self, name: str, value: ir.Value) -> ir.Value:
        """The rows' entries in a bank tensor: [B, ...]."""
        return self.emitter.op("Gather", [value, self.entry], name, attributes={"axis": 0})

    def gather(self, name: str, neutral: Array, free: Mapping[int, str] | None = None) -> ir.Value:
        """The rows' entries in a new bank tensor: `open` and `pick`."""
        return self.pick(name, self.open(name, neutral, free))

    def split(self, value: ir.Value, parts: int, name: str) -> list[ir.Value]:
        """The parts of a value along its second axis, which stays, with size 1."""
        if parts == 1:
            return [value]
        sizes = self.integers(f"{name}/sizes", [1] * parts)
        node = ir.node(
            "Split",
            [value, sizes],
            {"axis": 1},
            num_outputs=parts,
            name=f"{self.emitter.prefix}/{name}/split",
            metadata_props=dict(self.emitter.labels),
        )
        for index, output in enumerate(node.outputs):
            output.name, output.type = f"{self.emitter.prefix}/{name}/{index}", ir.TensorType(self.dtype)
        self.emitter.nodes.append(node)
        return list(node.outputs)

    def shape(self, *rest: int) -> ir.Value:
        """The shape [B, ...] for a value that has the batch first, on an axis of its own."""
        return self.integers("/".join(map(str, ("shape", *rest))), [0, *rest])

    def shape_of_any(self, last: int) -> ir.Value:
        """The shape [B, 1, -1, last] for a value that may have batch and tokens together."""
        if last not in self.shapes:
            integers = integers_of(self.emitter)
            batch = integers.op("Shape", [self.ids], f"batch/{last}")
            rest = self.integers(f"batch/{last}/rest", [1, -1, last])
            self.shapes[last] = integers.op("Concat", [batch, rest], f"batch/{last}/shape", attributes={"axis": 0})
        return self.shapes[last]

    def are_in(self, place: Place) -> bool:
        """Whether a tensor of the rows [B, 1, d] can be added to a place's bias."""
        return is_by_row(place, None if self.ids.shape is None else self.ids.shape[0])

    def integers(self, name: str, values: Sequence[int]) -> ir.Value:
        """An integer constant."""
        return integers_of(self.emitter).constant(name, np.array(values))


def batch_of(graph: ir.Graph) -> int | str | ir.SymbolicDim:
    """The size of the batch, or its name in the graph."""
    return next((value.shape[0] for value in graph.inputs if value.shape is not None and len(value.shape)), "batch")


def is_by_row(place: Place, batch: int | str | ir.SymbolicDim | None) -> bool:
    """Whether m is known to be [B, tokens, d] where an adapter is added to it before a bias."""
    shape = place.layer.product.shape
    return place.is_before_bias and shape is not None and len(shape) == _TOKENS and shape[0] == batch
