"""Which nodes of a backbone stay in fp32 though the backbone becomes fp16 or bf16.

1. Root-mean-square norms that are spelled out in several nodes: x^2 leaves the range of fp16 where |x| > 256.
   Norms that are one operator compute in fp32 inside.
2. Where the second layer of the feed-forward network goes beyond 65504, as T5's `wo` does: that layer, and the residual
   stream that it is added to, from its first value to the norm behind the last layer. What reads the stream reads it
   through a norm.

The second layers are found as what they are: linear layers whose result is added to the residual stream, and whose
input comes from another linear layer through an activation alone. Attention's last layer reads a product of two values
that are no constants.
"""

from collections.abc import Iterator
from typing import Final

import onnx_ir as ir

from compacter_core.config import AdapterConfig
from compacter_exporters.graph import constant_of, is_op
from compacter_exporters.linears import Linear, find_linears
from compacter_exporters.norms import Norm, between, find_norms

_OVERFLOWING: Final = ("t5", "mt5", "umt5")
"""Model types whose residual stream leaves the range of fp16: transformers keeps their `wo` in fp32, whose result makes
all of the stream behind it fp32."""

_ACROSS_TOKENS: Final = ("MatMul", "Gemm", "Transpose", "Softmax", "Gather")
"""What no activation does."""


def wide_nodes(model: ir.Model, config: AdapterConfig) -> set[ir.Node]:
    """The nodes that stay in fp32.

    Args:
        model: an fp32 backbone, its fused operators taken apart.
        config: of an adapter for it, which tells the backbone's kind.
    """
    overflows = config.backbone is not None and config.backbone.model_type in _OVERFLOWING
    wide: set[ir.Node] = set()
    for graph in model.graphs():
        norms = find_norms(graph)
        for norm in norms:
            nodes = between(norm.input, norm.output)
            if overflows or (len(nodes) > 1 and not norm.is_centred):
                wide |= {*nodes}
        if overflows:
            wide |= _stream(norms)
            for layer in second_layers(graph, norms):
                wide |= {node for node in (layer.node, layer.bias_add, layer.reshape) if node is not None}
    return wide


def _stream(norms: list[Norm]) -> set[ir.Node]:
    """The sums that norms read."""
    producers = (norm.input.producer() for norm in norms)
    return {node for node in producers if node is not None and is_op(node, "Add")}


def second_layers(graph: ir.Graph, norms: list[Norm]) -> list[Linear]:
    """The second linear layer of every feed-forward network that is added to what a norm reads."""
    sums = _stream(norms)
    layers = find_linears(graph)
    outputs = {layer.output for layer in layers}
    return [
        layer
        for layer in layers
        if any(reader in sums for reader in layer.output.consumers()) and _is_activated(layer.input, outputs)
    ]


def _is_activated(value: ir.Value, outputs: set[ir.Value]) -> bool:
    """Whether a value comes from outputs of linear layers through element-wise operators alone."""
    return all(one in outputs for one in _sources(value, outputs))


def _sources(value: ir.Value, outputs: set[ir.Value]) -> Iterator[ir.Value]:
    """The values that are not made element by element, from which the value is."""
    node = value.producer()
    if value in outputs or node is None or is_op(node, *_ACROSS_TOKENS):
        yield value
        return
    for operand in node.inputs:
        if operand is not None and constant_of(operand) is None:
            yield from _sources(operand, outputs)
