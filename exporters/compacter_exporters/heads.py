"""The task head of a graph: the linear layers before the `logits` output, replaced by the adapter's.

The head of an exported backbone is another task's or random, so nothing recognises it but its place: the walk goes from
the output back through element-wise operators, and through those that select rows, as decoders answer at the last token
alone, to each linear layer of the head in turn. Models that answer questions take the two columns of `logits` apart,
into `start_logits` and `end_logits`; the walk then goes through what splits them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter, Array
from compacter_core.config import Head
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import POOLER, bias_name, is_sketched, similarity, weight_name
from compacter_core.layout import Part
from compacter_exporters.emitter import Emitter
from compacter_exporters.fused.parts import is_contrib
from compacter_exporters.graph import constant_of, is_op
from compacter_exporters.linears import Linear, linear_of
from compacter_exporters.pooling import TokenMean, find_pooling
from compacter_exporters.rewire import drop_unused, redirect, replace_input

OUTPUT: Final = "logits"
_FIRST_COLUMN: Final = "start_logits"
_ELEMENTWISE: Final = ("Identity", "Cast", "Dropout", "Tanh", "Relu", "Gelu", "Sigmoid", "Erf")
_FUSED_ELEMENTWISE: Final = ("FastGelu", "Gelu", "QuickGelu")
_SHAPING: Final = ("Reshape", "Flatten")
_SPLITTING: Final = ("Squeeze", "Split", "Slice")


@dataclass(frozen=True, slots=True, eq=False)
class HeadLayer:
    """One linear layer of the head in the graph.

    Args:
        name: its module name, as in the adapter's configuration.
        linear: the layer.
        path: the values from the layer's output to the next layer's input, or to the graph's output, or to where its
            columns are taken apart.
        is_split: whether they are; their number is then the graph's.
    """

    name: str
    linear: Linear
    path: tuple[ir.Value, ...]
    is_split: bool = False


def head_layers(graph: ir.Graph, head: Head) -> list[HeadLayer]:
    """The head's layers in the graph, first to last.

    Raises:
        CompacterError: E604 if the graph has no output `logits` or `start_logits`, or something else before it than
            these layers.
    """
    value = next((output for output in graph.outputs if output.name in (OUTPUT, _FIRST_COLUMN)), None)
    if value is None:
        raise CompacterError(
            ErrorCode.E604,
            "the adapter has a head but the graph has no output for it",
            value=[output.name for output in graph.outputs],
            expected=OUTPUT,
            remedy=f"Export the backbone with the task {head.task}.",
        )
    layers: list[HeadLayer] = []
    for name in reversed(head.layers):
        layer = _walk_back(name, value)
        _check_input(layer, head)
        layers.append(layer)
        value = layer.linear.input
    return layers[::-1]


def check_head_input(adapter: Adapter, layers: Sequence[HeadLayer]) -> TokenMean | None:
    """Check what the head reads: where the configuration says so, a mean, or a linear that is the sketched one.

    Exporters give a pooler that a checkpoint lacks random values, and nothing else would tell.

    Args:
        adapter: the adapter.
        layers: its head's in the graph.

    Returns:
        The mean, where it is one.

    Raises:
        CompacterError: E604 for something else; E403 for another pooler.
    """
    head = adapter.config.head
    if head is None:
        return None
    first = layers[0].linear.input
    _check_pooler(adapter, head, first)
    return find_pooling(first, head)


def _check_pooler(adapter: Adapter, head: Head, first: ir.Value) -> None:
    expected = adapter.sketches.get(weight_name(POOLER))
    if head.pooler is None or expected is None:
        return
    linear = _walk_back(head.pooler, first).linear
    bias = adapter.sketches.get(bias_name(POOLER))
    agrees = bias is None or is_sketched(bias, linear.bias_or_zero)
    if not (agrees and linear.is_sketched(expected)):
        raise CompacterError(
            ErrorCode.E403,
            f"{head.pooler} of the backbone is not the one the adapter was trained with",
            value=f"correlation {similarity(expected, linear.sketch()):.3f}",
            expected="the sketched values",
            remedy="If the checkpoint has no pooler, train again with the pooler as part of the head.",
        )


def apply_head(graph: ir.Graph, prefix: str, adapter: Adapter) -> dict[str, str]:
    """Replace the head's weights and biases; returns the SHA-256 of each new initialiser by its name.

    Raises:
        CompacterError: E604, as `head_layers`; E403, E604, as `check_head_input`.
    """
    if adapter.config.head is None:
        return {}
    layers = head_layers(graph, adapter.config.head)
    check_head_input(adapter, layers)
    tensors = adapter.part(Part.HEAD)
    digests: dict[str, str] = {}
    for layer in layers:
        weight = tensors[f"{layer.name}.weight"]
        check_count(layer, weight.shape[0])
        emitter = Emitter(graph, prefix, layer.linear.dtype, {"compacter.part": Part.HEAD.value})
        _replace(emitter, layer, weight, tensors.get(f"{layer.name}.bias"))
        for value in (layer.linear.product, layer.linear.output, *layer.path):
            if value.shape is not None and len(value.shape) > 0:
                value.shape = ir.Shape([*list(value.shape)[:-1], weight.shape[0]])
        digests |= emitter.initialisers
    return digests


def _replace(emitter: Emitter, layer: HeadLayer, weight: Array, bias: Array | None) -> None:
    linear = layer.linear
    if linear.quantised is not None:
        _replace_quantised(emitter, layer, weight, bias)
        return
    oriented = weight if linear.weight_is_transposed else weight.T
    replace_input(linear.node, 1, emitter.constant(f"{layer.name}.weight", oriented))
    slot = linear.bias_slot
    if bias is None and slot is None:
        return
    if bias is None:
        bias = np.zeros(weight.shape[0], dtype=weight.dtype)
    constant = emitter.constant(f"{layer.name}.bias", bias)
    if slot is not None:
        replace_input(slot.node, slot.index, constant)
        return
    product = linear.product
    uses = tuple(product.uses())
    output = emitter.op("Add", [product, constant], f"{layer.name}.add", like=product)
    emitter.graph.insert_after(linear.node, emitter.nodes)
    redirect(emitter.graph, product, output, uses)


def _replace_quantised(emitter: Emitter, layer: HeadLayer, weight: Array, bias: Array | None) -> None:
    """A floating-point layer in the place of a quantised one: what was trained is not rounded to a few bits."""
    old = layer.linear.output
    uses, last = tuple(old.uses()), old.producer()
    product = emitter.op("MatMul", [layer.linear.input, emitter.constant(f"{layer.name}.weight", weight.T)], layer.name)
    offset = np.zeros(weight.shape[0], weight.dtype) if bias is None else bias
    y = emitter.op("Add", [product, emitter.constant(f"{layer.name}.bias", offset)], f"{layer.name}.add", like=old)
    if last is None:  # a product or its bias
        raise TypeError("the output of a linear layer has no producer")
    emitter.graph.insert_after(last, emitter.nodes)
    redirect(emitter.graph, old, y, uses)
    y.shape = old.shape
    drop_unused(old)


def _walk_back(name: str, value: ir.Value) -> HeadLayer:
    """The linear layer whose output, row by row through element-wise operators only, is `value`."""
    path, in_columns, is_split = [value], value.name == _FIRST_COLUMN, False
    while True:
        node = value.producer()
        linear = _ending_in(node)
        if linear is not None:
            return HeadLayer(name, linear, tuple(path), is_split)
        source = None if node is None else _source(node)
        if source is None and in_columns and is_op(node, *_SPLITTING) and node is not None:
            source, is_split = node.inputs[0], True
            path.clear()
        if source is None:
            raise CompacterError(
                ErrorCode.E604,
                f"no linear layer for {name} of the head before the output",
                value=None if node is None else node.op_type,
                expected="Gemm, or MatMul and Add",
                remedy="Export the backbone with the head class the adapter was trained with.",
            )
        value = source
        path.append(value)


def _source(node: ir.Node) -> ir.Value | None:
    """The value of which each row of the node's output is made, row by row; None for another kind of node."""
    if is_op(node, "Gather"):
        axis = node.attributes.get("axis")
        return node.inputs[0] if axis is None or axis.as_int() == 0 else None
    if is_op(node, "Mul", "Add", "Div"):
        return _of_both(*node.inputs)
    if is_contrib(node, *_FUSED_ELEMENTWISE):
        return node.inputs[0]
    return node.inputs[0] if is_op(node, "GatherND", *_SHAPING, *_ELEMENTWISE) else None


def _of_both(first: ir.Value | None, second: ir.Value | None) -> ir.Value | None:
    """What both operands are made of, a constant aside: z for z and 1 + erf(z / sqrt 2), which make a GELU.

    A linear layer's bias is no such constant: its Add ends the layer.
    """
    if first is None or second is None or constant_of(first) is not None or constant_of(second) is not None:
        return second if constant_of(first) is not None else first
    one, other = _chain(first), _chain(second)
    return next((value for value in one if any(value is same for same in other)), None)


def _chain(value: ir.Value) -> list[ir.Value]:
    """The value, and what it is made of by one element-wise operator after the other."""
    chain = [value]
    while True:
        node = chain[-1].producer()
        if node is None or _ending_in(node) is not None or not is_op(node, "Mul", "Add", "Div", *_ELEMENTWISE):
            return chain
        operands = [operand for operand in node.inputs if operand is not None and constant_of(operand) is None]
        if len(operands) != 1:
            return chain
        chain.append(operands[0])


def check_count(layer: HeadLayer, count: int) -> None:
    """Refuse another number of classes where the graph's own is written into a shape or a split behind the layer.

    Raises:
        CompacterError: E604.
    """
    before = layer.linear.weight.shape[1]
    if count != before and (layer.is_split or any(is_op(value.producer(), *_SHAPING) for value in layer.path)):
        raise CompacterError(
            ErrorCode.E604,
            f"the graph reshapes or splits the output of {layer.name} by its own number of classes",
            value=before,
            expected=str(count),
            remedy=f"Export the backbone with num_labels={count}.",
        )


def _ending_in(node: ir.Node | None) -> Linear | None:
    """The linear layer whose last node this is."""
    if node is not None and is_op(node, "Add"):
        for operand in node.inputs:
            linear = None if operand is None else linear_of(operand.producer())
            if linear is not None and linear.bias_add is node:
                return linear
        return None
    return linear_of(node)


def _check_input(layer: HeadLayer, head: Head) -> None:
    expected = head.shapes[f"{layer.name}.weight"]
    got = layer.linear.weight.shape
    last = layer.name == head.layers[-1]
    if got[0] != expected[1] or (not last and got[1] != expected[0]):
        raise CompacterError(
            ErrorCode.E604,
            f"the layer of the graph in the place of {layer.name} has other sizes",
            value=got,
            expected=f"{expected[1]} to {'any' if last else expected[0]}",
            remedy="Export the backbone with the head class the adapter was trained with.",
        )
