"""Reading an ONNX graph someone else exported: files, constants, and who uses what.

Exporters differ in how a constant reaches its consumer: an initialiser, a Constant node, either behind Identity, Cast
or Transpose nodes, or an Add of a number. `constant_of` sees through all of these without reading a matrix, so that a
memory-mapped weight stays on disk until somebody indexes it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.graph_order import check_outputs, put_in_order

STANDARD_DOMAINS: Final = ("", "ai.onnx")


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A constant as its consumer sees it.

    Args:
        view: the data, transposed as the graph transposes it, in the type it is stored in; external data is mapped.
        dtype: the type after the graph's casts.
    """

    view: Array
    dtype: ir.DataType

    def exact(self) -> Array:
        """The values after the casts; this reads the data."""
        return self.view.astype(self.dtype.numpy(), copy=False)


def load_graph(path: Path) -> ir.Model:
    """The model in `path`, its nodes in an order of execution, its external data left on disk.

    Raises:
        CompacterError: E005 if the file cannot be read or is no ONNX model, or if its external data is missing
            or outside its directory; E005 as `check_outputs`.
    """
    try:
        model = ir.load(path)
    except OSError as error:
        raise CompacterError(
            ErrorCode.E005, f"cannot read the ONNX model: {error.strerror or error}", value=str(path)
        ) from error
    except Exception as error:  # damaged bytes raise whatever they meet first in protobuf or onnx-ir
        raise CompacterError(ErrorCode.E005, "not an ONNX model", value=str(path)) from error
    if len(model.graph) == 0:
        raise CompacterError(ErrorCode.E005, "an ONNX model without nodes", value=str(path))
    for tensor in external_tensors(model):
        _check_data(tensor, path)
    check_outputs(model)
    put_in_order(model)
    return model


def _check_data(tensor: ir.ExternalTensor, model: Path) -> None:
    """Refuse external data that is missing, or that a hostile model points to outside its own directory.

    Raises:
        CompacterError: E005.
    """
    if not Path(tensor.path).resolve().is_relative_to(model.parent.resolve()):
        raise CompacterError(
            ErrorCode.E005,
            "the model's external data lies outside its directory",
            value=str(tensor.location),
            expected="a relative path within the directory, not a link out of it",
        )
    if not Path(tensor.path).is_file():
        raise CompacterError(
            ErrorCode.E005,
            "the model's external data is missing",
            value=str(tensor.path),
            remedy="Keep the data file beside the .onnx file, under the name it was exported with.",
        )


def external_tensors(model: ir.Model) -> list[ir.ExternalTensor]:
    """One tensor per external data file of the model, in the order the graph names them."""
    found: dict[str, ir.ExternalTensor] = {}
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                found.setdefault(str(value.const_value.location), value.const_value)
    return list(found.values())


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether the node is one of these standard operators."""
    return node is not None and node.domain in STANDARD_DOMAINS and node.op_type in op_types


def constant_of(value: ir.Value | None) -> Constant | None:
    """The constant behind a value, or None if it depends on the model's inputs."""
    if value is None:
        return None
    node = value.producer()
    if value.is_initializer() or is_op(node, "Constant"):
        tensor = ir.convenience.get_const_tensor(value)
        return None if tensor is None else Constant(tensor.numpy(), tensor.dtype)
    if node is None or not is_op(node, "Identity", "Cast", "Transpose"):
        return _shifted(node) if node is not None and is_op(node, "Add") else None
    source = constant_of(node.inputs[0])
    return None if source is None else _through(node, source)


def _shifted(add: ir.Node) -> Constant | None:
    """A constant vector plus a constant number, as in 1 + gain."""
    for operand in add.inputs:
        if operand is None or not (operand.is_initializer() or is_op(operand.producer(), "Constant")):
            continue
        number, vector = constant_of(operand), constant_of(other_input(add, operand))
        if number is not None and number.view.size == 1 and vector is not None and vector.view.ndim == 1:
            return Constant(vector.exact() + number.exact().reshape(()), vector.dtype)
    return None


def _through(node: ir.Node, source: Constant) -> Constant:
    """The constant after an Identity, Cast or Transpose."""
    match node.op_type:
        case "Cast":
            return Constant(source.view, ir.DataType(node.attributes["to"].as_int()))
        case "Transpose":
            permutation = node.attributes.get("perm")
            axes = None if permutation is None else permutation.as_ints()
            return Constant(np.transpose(source.view, axes), source.dtype)
        case _:
            return source


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """One input of one node: the place where a constant is consumed, which is what a graft rewires."""

    node: ir.Node
    index: int

    @property
    def value(self) -> ir.Value | None:
        """What the node reads there now."""
        return self.node.inputs[self.index] if self.index < len(self.node.inputs) else None

    @property
    def constant(self) -> Constant:
        """The constant consumed there."""
        constant = constant_of(self.value)
        if constant is None:  # slots are only made for constants
            raise TypeError(f"input {self.index} of {self.node.name} is no constant")
        return constant

    def array(self) -> Array:
        """Its values."""
        return self.constant.exact()


def producer_of(value: ir.Value | None) -> ir.Node | None:
    """The node a value comes from; None for no value, an input or an initialiser."""
    return None if value is None else value.producer()


def other_input(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The operand of a binary node that is not `value`."""
    first, second = node.inputs[0], node.inputs[1]
    return second if first is value else first


def consumers(value: ir.Value, *op_types: str) -> list[ir.Node]:
    """The standard nodes of these types that read a value, each once, in no particular order."""
    return [node for node in value.consumers() if is_op(node, *op_types)]


def depends_on_inputs(value: ir.Value | None) -> bool:
    """Whether a value changes with what the model is given."""
    waiting, seen = [value], set[ir.Value]()
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        seen.add(one)
        producer = one.producer()
        if producer is None:
            if not one.is_initializer():
                return True
            continue
        waiting += producer.inputs
    return False


def width(value: ir.Value) -> int | None:
    """The last dimension of a value where the graph states it."""
    if value.shape is None or len(value.shape) == 0:
        return None
    last = value.shape[-1]
    return last if isinstance(last, int) else None


def numpy_type(dtype: ir.DataType) -> np.dtype[Any]:
    """The NumPy type of a graph's type."""
    return np.dtype(dtype.numpy())
