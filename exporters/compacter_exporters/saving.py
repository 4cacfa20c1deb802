"""Writing a model beside or away from its external data."""

import math
import os
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_file, atomic_write
from compacter_exporters.fused.apart import put_together
from compacter_exporters.graph import STANDARD_DOMAINS, external_tensors
from compacter_exporters.operators import CONTRIB
from compacter_exporters.own_data import OwnData

_STANDARD_SINCE: Final = {"SimplifiedLayerNormalization": math.inf, "LayerNormalization": 17}
"""Operators that ONNX Runtime writes into the standard domain of any version, and the version that has them."""

_LARGEST: Final = 2**31 - 1
"""Protobuf's limit of one message."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What was written.

    Args:
        model_bytes: size of the .onnx file.
        data_files: the external data files it refers to, by name.
        shared: whether these are the backbone's own.
    """

    model_bytes: int
    data_files: tuple[str, ...]
    shared: bool


def save_beside(model: ir.Model, backbone: Path, output: Path, *, large: Collection[str] = ()) -> Saved:
    """Write a changed model, its fused operators put together again, after ONNX's checker has accepted it.

    In the backbone's directory the two share the external data. Elsewhere the data is copied: ONNX and ONNX Runtime
    refuse hard links, symbolic links and parent directories.

    Args:
        model: the changed model.
        backbone: the file it was read from.
        output: the file to write.
        large: new initialisers that get a file of their own where the backbone's have one.

    Raises:
        CompacterError: E006 if a file cannot be written or would overwrite the backbone; E605 if the checker refuses
            the graph.
    """
    put_together(model)
    tensors = external_tensors(model)
    sources = {str(tensor.location): Path(tensor.path) for tensor in tensors}
    own_path = output.parent / f"{output.name}.own.data"
    _refuse_overwriting(backbone, tensors, output, own_path)
    shared = output.parent.resolve() == backbone.parent.resolve()
    names = {location: location if shared else _data_name(output, i) for i, location in enumerate(sources)}
    own = OwnData.move(model.graph, large if sources else (), own_path)
    data = checked_bytes(model)
    if own.tensors:
        own.write()
    if not shared and sources:
        for location, source in sources.items():
            _copy(source, output.parent / names[location])
        _relocate(model, names)
        data = ir.to_proto(model).SerializeToString()
    atomic_write(output, data)
    data_files = (*names.values(), *([own_path.name] if own.tensors else []))
    return Saved(model_bytes=len(data), data_files=data_files, shared=shared)


def refuse_overwriting(model: ir.Model, backbone: Path, output: Path) -> None:
    """Refuse an output that is the backbone's file, or whose copy of the external data would be the backbone's.

    Raises:
        CompacterError: E006.
    """
    _refuse_overwriting(backbone, external_tensors(model), output, output.parent / _data_name(output, 0))


def _refuse_overwriting(backbone: Path, tensors: Iterable[ir.ExternalTensor], *outputs: Path) -> None:
    taken = {backbone.resolve(), *(Path(tensor.path).resolve() for tensor in tensors)}
    if not taken.isdisjoint(output.resolve() for output in outputs):
        raise CompacterError(
            ErrorCode.E006,
            "the output would overwrite the backbone",
            value=str(outputs[0]),
            remedy="Give the output another name.",
        )


def checked_bytes(model: ir.Model) -> bytes:
    """The serialised model, after ONNX's checker has seen it; external data is not read.

    Raises:
        CompacterError: E605 for a model that does not fit into one file, or that the checker refuses.
    """
    proto = ir.to_proto(model)
    if proto.ByteSize() > _LARGEST:
        raise CompacterError(
            ErrorCode.E605,
            "the grafted model does not fit into one ONNX file",
            value=proto.ByteSize(),
            expected=f"at most {_LARGEST} bytes",
            remedy="Export the backbone with external data.",
        )
    try:
        onnx.checker.check_model(_skeleton(proto))
    except onnx.checker.ValidationError as error:
        raise CompacterError(
            ErrorCode.E605, "the grafted graph is not a valid ONNX model", value=str(error).splitlines()[0]
        ) from error
    return bytes(proto.SerializeToString())


def _skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model as the checker can read it: its initialisers are inputs, since it would look for the external data."""
    skeleton = onnx.ModelProto(ir_version=proto.ir_version)
    skeleton.opset_import.extend(proto.opset_import)
    skeleton.functions.extend(proto.functions)
    graph = skeleton.graph
    graph.name = proto.graph.name or "graph"
    graph.node.extend(proto.graph.node)
    graph.output.extend(proto.graph.output)
    graph.input.extend(proto.graph.input)
    version = next((one.version for one in proto.opset_import if one.domain in STANDARD_DOMAINS), 1)
    _move_early(graph, version)
    if all(one.domain != CONTRIB for one in proto.opset_import):
        skeleton.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))
    declared = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.name not in declared:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return skeleton


def _move_early(graph: onnx.GraphProto, version: int) -> None:
    """Move operators that the standard does not have in this version into ONNX Runtime's domain, branches included."""
    for node in graph.node:
        if node.domain in STANDARD_DOMAINS and version < _STANDARD_SINCE.get(node.op_type, 0):
            node.domain = CONTRIB
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _move_early(attribute.g, version)


def _data_name(output: Path, index: int) -> str:
    return f"{output.name}.data" if index == 0 else f"{output.name}.{index}.data"


def _copy(source: Path, target: Path) -> None:
    with atomic_file(target) as stream, source.open("rb") as origin:
        shutil.copyfileobj(origin, stream, 1 << 24)
        stream.flush()
        os.fsync(stream.fileno())


def _relocate(model: ir.Model, names: dict[str, str]) -> None:
    """Point every external tensor to the new name of its file."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            old = value.const_value
            if isinstance(old, ir.ExternalTensor) and str(old.location) in names:
                value.const_value = ir.ExternalTensor(
                    names[str(old.location)],
                    old.offset,
                    old.length,
                    old.dtype,
                    shape=old.shape,
                    name=old.name or "",
                    base_dir=old.base_dir,
                )
