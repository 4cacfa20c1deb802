"""A model in fp16 or bf16, with Casts only where two neighbours compute in different types.

Every graph, branches included, keeps the types of its inputs and outputs (ONX-39), so that nothing that runs the model
has to know. A node stays in fp32 if it is asked to, or if its operator does not take the narrow type. Constants are
rounded once; what is read in both types is there in both.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_exporters.graph import is_op
from compacter_exporters.optimise.operator_types import FIXED, letters, schema_of, single_values, takes

_SINGLE: Final = ir.DataType.FLOAT
_NAMES: Final = {ir.DataType.FLOAT: "fp32", ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}
_BODIES: Final = ("If", "Loop", "Scan")
_STATING: Final = ("Cast", "Constant", "ConstantOfShape")
"""Operators of which an attribute that is always changed with them decides the type."""

HasKernel = Callable[[ir.Node], bool]


def narrow(
    model: ir.Model, dtype: ir.DataType, *, wide: Collection[ir.Node] = (), has_kernel: HasKernel = lambda _: True
) -> None:
    """Let a model compute in another type.

    Args:
        model: in fp32; changed.
        dtype: FLOAT16 or BFLOAT16.
        wide: nodes that stay in fp32.
        has_kernel: whether a node can be run in the narrow type.
    """
    work = _Narrowing(model, dtype, single_values(model), has_kernel, {*wide})
    for graph in list(model.graphs()):
        for node in list(graph):
            work.widen_if_needed(node)
    for graph in list(model.graphs()):
        for node in list(graph):
            work.connect(node)
        work.keep_outputs(graph)
    work.finish()


@dataclass(slots=True, eq=False)
class _Narrowing:
    """One model on its way.

    Args:
        model: the model.
        dtype: the narrow type.
        single: the values that were fp32 before.
        has_kernel: argument of `narrow`.
        wide: nodes that stay in fp32.
        casts: made so far: value and type to the Cast's output.
        constants: inputs of nodes that are constants: value and type to nodes and positions.
    """

    model: ir.Model
    dtype: ir.DataType
    single: set[ir.Value]
    has_kernel: HasKernel
    wide: set[ir.Node]
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = field(default_factory=dict)
    constants: dict[tuple[ir.Value, ir.DataType], list[tuple[ir.Node, int]]] = field(default_factory=dict)

    def widen_if_needed(self, node: ir.Node) -> None:
        """Note a node that cannot be in the narrow type."""
        if node.op_type in _BODIES or not self._can_be_narrow(node):
            self.wide.add(node)

    def _can_be_narrow(self, node: ir.Node) -> bool:
        schema = schema_of(self.model, node)
        if schema is None:
            return not any(value in self.single for value in (*node.inputs, *node.outputs))
        inputs, outputs = (
            {letter for letter, value in letters(*pair) if value in self.single and letter != FIXED}
            for pair in ((schema.inputs, node.inputs), (schema.outputs, node.outputs))
        )
        if not inputs | outputs:
            return True
        if outputs - inputs and node.op_type not in _STATING:
            return False
        return all(takes(schema, letter, self.dtype) for letter in inputs | outputs) and self.has_kernel(node)

    def _made(self, value: ir.Value) -> ir.DataType:
        """The type in which a value is made."""
        node = value.producer()
        if node is None or self._is_wide(node):
            return _SINGLE
        schema = schema_of(self.model, node)
        if schema is None:
            return _SINGLE
        fixed = {one for letter, one in letters(schema.outputs, node.outputs) if letter == FIXED}
        return _SINGLE if value in fixed else self.dtype

    def _is_wide(self, node: ir.Node) -> bool:
        """Whether a node computes in fp32; a Cast also if that is all that anybody wants of it."""
        if node in self.wide or not is_op(node, "Cast"):
            return node in self.wide
        (output,) = node.outputs
        readers = output.consumers()
        return (bool(readers) or output.is_graph_output()) and all(reader in self.wide for reader in readers)

    def _wanted(self, node: ir.Node, index: int) -> ir.DataType | None:
        """The type in which a node reads an input; None if it takes any."""
        schema = schema_of(self.model, node)
        if node in self.wide or schema is None:
            return _SINGLE
        of_inputs = list(letters(schema.inputs, node.inputs))
        letter = next(letter for letter, value in of_inputs if value is node.inputs[index])
        if letter == FIXED:
            return _SINGLE
        alike = [value for other, value in of_inputs if other == letter]
        is_bound = any(letter == other for other, _ in letters(schema.outputs, node.outputs))
        return None if not is_bound and len(alike) == 1 else self.dtype

    def connect(self, node: ir.Node) -> None:
        """Give a node all its inputs in the types it wants."""
        for index, value in enumerate(node.inputs):
            if value is None or value not in self.single:
                continue
            wanted = self._wanted(node, index)
            if _is_constant(value):
                self.constants.setdefault((value, wanted or self.dtype), []).append((node, index))
            elif wanted is not None and self._made(value) is not wanted:
                node.replace_input_with(index, self._cast(value, wanted))

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """A value in another type, cast in its own graph."""
        key = (value, dtype)
        if key not in self.casts:
            name = f"{value.name}/{_name(dtype)}"
            node = ir.node("Cast", [value], {"to": int(dtype)}, name=name)
            output = node.outputs[0]
            output.name, output.type, output.shape = name, ir.TensorType(dtype), value.shape
            producer, graph = value.producer(), value.graph
            if not isinstance(graph, ir.Graph):
                raise TypeError(f"{value.name} is in no graph")
            if producer is not None:
                graph.insert_after(producer, node)
            else:
                graph.insert_before(graph[0], node)
            self.casts[key] = output
        return self.casts[key]

    def keep_outputs(self, graph: ir.Graph) -> None:
        """Let a graph put out what it did, under the same names."""
        for index, value in enumerate(graph.outputs):
            if value not in self.single:
                continue
            if _is_constant(value):
                self.constants.setdefault((value, _SINGLE), [])
            elif self._made(value) is not _SINGLE:
                single = self._cast(value, _SINGLE)
                single.name, value.name = value.name, f"{value.name}/{_name(self.dtype)}"
                graph.outputs[index] = single

    def finish(self) -> None:
        """Change the constants, and what nodes state of their types."""
        for (value, dtype), uses in self.constants.items():
            if dtype is self.dtype:
                self._narrow_constant(value, uses, in_both=(value, _SINGLE) in self.constants)
        for node in list(self.model.graph.all_nodes()):
            if node.op_type == "Constant":
                continue
            for output in node.outputs:
                if output in self.single:
                    output.type = ir.TensorType(self._made(output))
                    if output.dtype is self.dtype:
                        self._restate(node)
        for graph in self.model.graphs():
            _drop_idle_casts(graph)

    def _restate(self, node: ir.Node) -> None:
        for name in ("to", "dtype"):
            if name in node.attributes:
                node.attributes[name] = ir.AttrInt64(name, int(self.dtype))
        if node.op_type == "ConstantOfShape":
            filling = node.attributes["value"].as_tensor().numpy() if "value" in node.attributes else np.zeros(1)
            node.attributes["value"] = ir.AttrTensor("value", self._rounded(filling, "value"))

    def _narrow_constant(self, value: ir.Value, uses: list[tuple[ir.Node, int]], *, in_both: bool) -> None:
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None:  # `_is_constant` saw it
            raise TypeError(f"{value.name} has no value")
        name = f"{value.name}/{_name(self.dtype)}" if in_both else str(value.name)
        rounded = self._rounded(tensor.numpy(), name)
        node = value.producer()
        if in_both:
            new = ir.val(name, self.dtype, list(rounded.shape.numpy()), const_value=rounded)
            self.model.graph.register_initializer(new)
            for reader, index in uses:
                reader.replace_input_with(index, new)
        elif node is None:
            value.const_value, value.type = rounded, ir.TensorType(self.dtype)
        else:
            node.attributes.clear()
            node.attributes["value"] = ir.AttrTensor("value", rounded)
            value.type = ir.TensorType(self.dtype)

    def _rounded(self, values: Array, name: str) -> ir.TensorProtocol:
        return ir.Tensor(rounded(values, self.dtype), self.dtype, name=name)


def rounded(values: Array, dtype: ir.DataType) -> Array:
    """Values rounded to a narrow type: finite ones stay finite, and a number that is not zero does not become it.

    The first matters for what a mask adds, often the lowest number of fp32, the second for the epsilon of a norm.
    """
    narrow_type: Any = dtype.numpy()
    limits = ml_dtypes.finfo(narrow_type)
    largest = float(limits.max)
    finite = np.where(np.isfinite(values), np.clip(values, -largest, largest), values)
    if values.size == 1:
        smallest = float(limits.smallest_subnormal)
        tiny = (finite != 0) & (np.abs(finite) < smallest)
        finite = np.where(tiny, np.copysign(smallest, finite), finite)
    return np.asarray(finite.astype(narrow_type))


def _drop_idle_casts(graph: ir.Graph) -> None:
    """Remove Casts to the type that their input has."""
    for node in list(graph):
        source = node.inputs[0] if is_op(node, "Cast") else None
        if source is None or node.outputs[0].is_graph_output() or source.dtype != node.attributes["to"].as_int():
            continue
        ir.convenience.replace_all_uses_with(node.outputs[0], source)
        graph.remove(node, safe=True)


def _is_constant(value: ir.Value) -> bool:
    if value.is_graph_input():
        return False
    return value.is_initializer() or is_op(value.producer(), "Constant")


def _name(dtype: ir.DataType) -> str:
    return _NAMES[dtype]
