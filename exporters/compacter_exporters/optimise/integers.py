"""int8 and int4 weights of a grafted graph's backbone; what came from the adapter file stays in float.

int8 is dynamic: activations are quantised when the graph runs, each tensor with one scale; every column of a weight has
a scale of its own. int4 packs blocks of a column (MatMulNBits), and computes in float.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.emitter import OWN_PREFIX
from compacter_exporters.optimise.choices import Precision
from compacter_exporters.quiet import quiet

_BLOCK: Final = 32
"""Weights of a column that share a scale; the smallest block for which all providers have kernels."""

_IN_FLOAT: Final = 1
"""MatMulNBits' accuracy level: products in fp32."""

_LINEARS: Final = {Precision.INT8: ("MatMul", "Gemm"), Precision.INT4: ("MatMul",)}
_MATRIX: Final = 2
_HIDDEN: Final = "compacter.HiddenGemm"
"""An operator, and its domain, that quantisers do not know."""


def quantise(source: Path, target: Path, precision: Precision) -> tuple[str, ...]:
    """Write a grafted model with the weights of its backbone quantised.

    Args:
        source: the grafted model, in float.
        target: the file to write; its data goes to a file beside it.
        precision: int8 or int4.

    Returns:
        The names of the linear layers whose weights were quantised.

    Raises:
        CompacterError: E605 if there is no such layer.
    """
    model = onnx.load(source)
    _name_all(model)
    layers = tuple(_layers_of_backbone(model.graph, _LINEARS[precision]))
    if not layers:
        raise CompacterError(
            ErrorCode.E605,
            "no linear layer of the backbone has weights to quantise",
            value=str(source),
            expected="products with a constant matrix in fp32",
            remedy="A graph that is quantised already needs no --precision.",
        )
    _type_products(model, layers)
    with quiet():
        (_dynamic if precision is Precision.INT8 else _blocks)(model, target, layers)
    _tidy(target)
    return layers


def _tidy(path: Path) -> None:
    """Undo `_hide_others`, and take constants of nodes back into the graph: quantisers write these out too."""
    model = onnx.load(path)
    _show(model)
    data = f"{path.name}.data"
    path.with_name(data).unlink(missing_ok=True)  # onnx would append to it
    onnx.save(model, path, save_as_external_data=True, location=data, convert_attribute=False)


def _dynamic(model: onnx.ModelProto, target: Path, layers: tuple[str, ...]) -> None:
    # The quantiser turns every Gemm into a MatMul of another name, with another weight, before it looks at names.
    _hide_others(model, layers)
    quantize_dynamic(
        model,
        target,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=[*layers, *(f"{name}_MatMul" for name in layers)],
        use_external_data_format=True,
        # The quantiser cannot infer the type of what ONNX Runtime's own operators put out.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "EnableSubgraph": True},
    )


def _blocks(model: onnx.ModelProto, target: Path, layers: tuple[str, ...]) -> None:
    others = [node.name for graph in _graphs(model.graph) for node in graph.node if node.name not in layers]
    quantizer = MatMulNBitsQuantizer(
        model, block_size=_BLOCK, is_symmetric=True, accuracy_level=_IN_FLOAT, nodes_to_exclude=others
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(target), use_external_data_format=True)


def _hide_others(model: onnx.ModelProto, layers: tuple[str, ...]) -> None:
    """Turn every Gemm that is not to be quantised into another operator."""
    nodes = [node for graph in _graphs(model.graph) for node in graph.node]
    others = [node for node in nodes if node.op_type == "Gemm" and node.name not in layers]
    for node in others:
        node.domain = node.op_type = _HIDDEN
    if others:
        model.opset_import.append(onnx.helper.make_opsetid(_HIDDEN, 1))


def _show(model: onnx.ModelProto) -> None:
    """Undo `_hide_others`."""
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.domain == _HIDDEN:
                node.domain, node.op_type = "", "Gemm"
    kept = [one for one in model.opset_import if one.domain != _HIDDEN]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _layers_of_backbone(graph: onnx.GraphProto, op_types: tuple[str, ...]) -> Iterator[str]:
    """Names of these nodes that multiply with a constant matrix which is not the adapter's, branches included."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for inner in _graphs(graph):
        constants |= {tensor.name: tensor for tensor in inner.initializer}
        for node in inner.node:
            weight = constants.get(node.input[1]) if node.op_type in op_types else None
            if weight is None or weight.data_type != onnx.TensorProto.FLOAT or len(weight.dims) != _MATRIX:
                continue
            if not weight.name.startswith(OWN_PREFIX):
                yield node.name


def _type_products(model: onnx.ModelProto, layers: tuple[str, ...]) -> None:
    """Say that the products are in fp32: in a branch that does not, the quantiser casts them to no type at all."""
    for graph in _graphs(model.graph):
        known = {value.name for value in (*graph.value_info, *graph.output)}
        outputs = [node.output[0] for node in graph.node if node.name in layers and node.output[0] not in known]
        graph.value_info.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs
        )


def _name_all(model: onnx.ModelProto) -> None:
    """Quantisers choose nodes by their names, and some exporters give them none."""
    taken = {node.name for graph in _graphs(model.graph) for node in graph.node}
    for graph in _graphs(model.graph):
        for position, node in enumerate(graph.node):
            if not node.name:
                name = f"{graph.name}/{node.op_type}/{position}"
                while name in taken:
                    name += "/unnamed"
                node.name = name
                taken.add(name)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)
