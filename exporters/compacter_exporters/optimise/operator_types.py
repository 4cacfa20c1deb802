"""Which values of a model are fp32, and which other types its operators take: read off the operators' own schemas.

A schema names the types of inputs and outputs by letters: an output with the letter of an input has the type of that
input, an output with a letter of its own the type that an attribute states. Exporters and optimisers do not always
write types down, and ONNX's inference knows nothing of ONNX Runtime's operators, whose schemas ONNX Runtime tells.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import onnx_ir as ir
from onnxruntime.capi import onnxruntime_pybind11_state

from compacter_exporters.graph import STANDARD_DOMAINS

_NAMES: Final = {
    ir.DataType.FLOAT: "tensor(float)",
    ir.DataType.FLOAT16: "tensor(float16)",
    ir.DataType.BFLOAT16: "tensor(bfloat16)",
}
FIXED: Final = _NAMES[ir.DataType.FLOAT]
"""What stands in the place of a letter where nothing but fp32 is taken."""


def schema_of(model: ir.Model, node: ir.Node) -> Any | None:
    """The schema of a node's operator in the version the model imports; None for an operator that nobody knows."""
    domain = "" if node.domain in STANDARD_DOMAINS else node.domain
    imports = model.opset_imports
    version = next((imports[one] for one in (STANDARD_DOMAINS if domain == "" else (domain,)) if one in imports), 1)
    versions = _schemas().get((domain, node.op_type), ())
    # ONNX Runtime has operators in the standard domain that the standard has later, or not at all.
    return max(
        (one for one in versions if one.since_version <= version),
        key=lambda one: one.since_version,
        default=min(versions, key=lambda one: one.since_version, default=None),
    )


@cache
def _schemas() -> Mapping[tuple[str, str], list[Any]]:
    found: dict[tuple[str, str], list[Any]] = {}
    for schema in onnxruntime_pybind11_state.get_all_operator_schema():
        found.setdefault((schema.domain, schema.name), []).append(schema)
    return found


def letters(parameters: Any, values: Any) -> Iterator[tuple[str, ir.Value]]:
    """The letter of each value that is there; the last parameter may stand for many."""
    for index, value in enumerate(values):
        if value is not None and parameters:
            yield parameters[min(index, len(parameters) - 1)].typeStr, value


def takes(schema: Any, letter: str, dtype: ir.DataType) -> bool:
    """Whether a letter may be of a type."""
    return any(
        one.type_param_str == letter and _NAMES[dtype] in one.allowed_type_strs for one in schema.type_constraints
    )


def single_values(model: ir.Model) -> set[ir.Value]:
    """The fp32 values of a model, its branches included."""
    types: dict[ir.Value, ir.DataType | None] = {}
    _visit(model, model.graph, types)
    return {value for value, dtype in types.items() if dtype is ir.DataType.FLOAT}


def _visit(model: ir.Model, graph: ir.Graph, types: dict[ir.Value, ir.DataType | None]) -> None:
    types.update((value, value.dtype) for value in graph.inputs)
    types.update((value, value.dtype) for value in graph.initializers.values())
    for node in graph:
        bodies = [one.as_graph() for one in node.attributes.values() if one.type is ir.AttributeType.GRAPH]
        for body in bodies:
            _visit(model, body, types)
        schema = schema_of(model, node)
        known = (
            {}
            if schema is None
            else {letter: types.get(value) for letter, value in letters(schema.inputs, node.inputs)}
        )
        outputs = [] if schema is None else list(letters(schema.outputs, node.outputs))
        for index, (letter, value) in enumerate(outputs):
            if node.op_type == "If" and bodies:
                types[value] = types.get(bodies[0].outputs[index])
            else:
                types[value] = (
                    known.get(letter) or _stated(node) or (ir.DataType.FLOAT if letter == FIXED else value.dtype)
                )


def _stated(node: ir.Node) -> ir.DataType | None:
    """The type that an attribute tells."""
    for name in ("to", "dtype"):
        if name in node.attributes:
            return ir.DataType(node.attributes[name].as_int())
    if node.op_type == "ConstantOfShape":
        return node.attributes["value"].as_tensor().dtype if "value" in node.attributes else ir.DataType.FLOAT
    if node.op_type == "Constant":
        tensor = ir.convenience.get_const_tensor(node.outputs[0])
        return None if tensor is None else tensor.dtype
    return None
