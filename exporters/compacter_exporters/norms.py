"""The normalisations of a graph: N(x) = (x - mean) / sqrt(variance + eps) * gain + bias over the last axis, or RMS.

Exporters write the LayerNormalization operator (opset 17) or its parts: ReduceMean, Sub, Pow or Mul, ReduceMean, Add,
Sqrt, Div, Mul, Add. Both forms are found, in the graph's order, which for a chain of norms is the order of execution;
root-mean-square norms likewise (`rms_norms`). Encoder and decoder in one graph are two chains up to the first
cross-attention, and whoever sorts the nodes may mix them: the norms that no input of the decoder reaches come first
(ONX-11).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_exporters.fused import embeddings
from compacter_exporters.fused.parts import is_contrib
from compacter_exporters.graph import Slot, constant_of, consumers, is_op, other_input, producer_of
from compacter_exporters.rms_norms import find_rms_norm

_SQUARE: Final = 2
_DECODER: Final = "decoder_"
"""How the names of a decoder's inputs begin, where its graph has an encoder's too."""


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """One normalisation of a graph.

    Args:
        input: x.
        output: N(x).
        gain: where the gain is consumed.
        bias: where the bias is consumed, or None if there is none.
        epsilon: eps.
        is_centred: whether the mean is taken off: a layer norm, not a root-mean-square norm.
    """

    input: ir.Value
    output: ir.Value
    gain: Slot
    bias: Slot | None
    epsilon: float
    is_centred: bool = True


def find_norms(graph: ir.Graph) -> list[Norm]:
    """All normalisations of a graph, in its order, an encoder's first; those of its subgraphs are theirs."""
    found = []
    for node in graph:
        if is_op(node, "LayerNormalization"):
            norm = _operator(node)
        elif is_contrib(node, embeddings.OPERATOR):
            norm = _of_embeddings(node)
        else:
            norm = _decomposed(node) or _root_mean_square(node)
        if norm is not None:
            found.append(norm)
    if not any(_is_decoders(value) for value in graph.inputs):
        return found
    return sorted(found, key=lambda norm: _reads_decoders(norm.input))


def _is_decoders(value: ir.Value) -> bool:
    return str(value.name).startswith(_DECODER)


def _reads_decoders(value: ir.Value) -> bool:
    """Whether a value is made of a decoder's inputs; their shape, which the encoder's inputs share, is none of them."""
    waiting, seen = [value], set[ir.Value]()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        producer = one.producer()
        if producer is None and _is_decoders(one):
            return True
        if producer is not None and not is_op(producer, "Shape"):
            waiting += [operand for operand in producer.inputs if operand is not None]
    return False


def _root_mean_square(node: ir.Node) -> Norm | None:
    found = find_rms_norm(node)
    if found is None:
        return None
    x, output, gain, epsilon = found
    return Norm(input=x, output=output, gain=gain, bias=None, epsilon=epsilon, is_centred=False)


def _operator(node: ir.Node) -> Norm | None:
    x = node.inputs[0]
    if x is None or constant_of(node.inputs[1]) is None:
        return None
    bias = Slot(node, 2)
    epsilon = node.attributes.get("epsilon")
    return Norm(
        input=x,
        output=node.outputs[0],
        gain=Slot(node, 1),
        bias=None if bias.value is None else bias,
        epsilon=1e-5 if epsilon is None else epsilon.as_float(),
    )


def _of_embeddings(node: ir.Node) -> Norm | None:
    """The norm within the operator, in a model that was taken apart."""
    gain, bias = Slot(node, embeddings.GAIN), Slot(node, embeddings.BIAS)
    if constant_of(gain.value) is None or len(node.outputs) <= embeddings.SUM:
        return None
    epsilon = node.attributes.get("epsilon")
    return Norm(
        input=node.outputs[embeddings.SUM],
        output=node.outputs[0],
        gain=gain,
        bias=None if bias.value is None else bias,
        epsilon=embeddings.EPSILON if epsilon is None else epsilon.as_float(),
    )


def _decomposed(division: ir.Node) -> Norm | None:
    """The norm whose centred input is divided by its deviation in this node."""
    if not is_op(division, "Div"):
        return None
    x = _centred(division.inputs[0])
    epsilon = _deviation_of(division.inputs[1], x)
    if x is None or epsilon is None:
        return None
    gain = _constant_operand(division.outputs[0], "Mul")
    if gain is None:
        return None
    bias = _constant_operand(gain.node.outputs[0], "Add")
    output = (bias or gain).node.outputs[0]
    return Norm(input=x, output=output, gain=gain, bias=bias, epsilon=epsilon)


def _centred(value: ir.Value | None) -> ir.Value | None:
    """x, where the value is x - mean(x)."""
    node = producer_of(value)
    if node is None or not is_op(node, "Sub"):
        return None
    x, mean = node.inputs[0], node.inputs[1]
    mean_node = producer_of(mean)
    if mean_node is None or not is_op(mean_node, "ReduceMean") or mean_node.inputs[0] is not x:
        return None
    return x


def _deviation_of(value: ir.Value | None, x: ir.Value | None) -> float | None:
    """Epsilon, where the value is sqrt(mean((x - mean(x))^2) + eps)."""
    root = producer_of(value)
    if root is None or not is_op(root, "Sqrt") or root.inputs[0] is None:
        return None
    add = root.inputs[0].producer()
    if add is None or not is_op(add, "Add"):
        return None
    for variance in add.inputs:
        mean = producer_of(variance)
        if variance is None or mean is None or not is_op(mean, "ReduceMean") or mean.inputs[0] is None:
            continue
        square = mean.inputs[0].producer()
        epsilon = constant_of(other_input(add, variance))
        if square is not None and _is_square_of(square, x) and epsilon is not None and epsilon.view.size == 1:
            return float(epsilon.exact().reshape(()))
    return None


def _is_square_of(node: ir.Node, x: ir.Value | None) -> bool:
    """Whether the node computes (x - mean(x))^2."""
    if is_op(node, "Mul"):
        return node.inputs[0] is node.inputs[1] and _centred(node.inputs[0]) is x
    if not is_op(node, "Pow") or _centred(node.inputs[0]) is not x:
        return False
    exponent = constant_of(node.inputs[1])
    return exponent is not None and bool(np.all(exponent.exact() == _SQUARE))


def _constant_operand(value: ir.Value, op_type: str) -> Slot | None:
    """The constant operand of the one node of that type that reads the value."""
    for node in consumers(value, op_type):
        for index, operand in enumerate(node.inputs):
            if operand is not value and constant_of(operand) is not None:
                return Slot(node, index)
    return None


def between(x: ir.Value, output: ir.Value) -> tuple[ir.Node, ...]:
    """The nodes that compute `output` from `x`, without those that do not depend on it, each after those it needs."""
    depends: dict[ir.Node, bool] = {}

    def visit(value: ir.Value) -> bool:
        node = value.producer()
        if value is x or node is None:
            return value is x
        if node not in depends:
            found = [visit(operand) for operand in node.inputs if operand is not None]
            depends[node] = any(found)
        return depends[node]

    visit(output)
    return tuple(node for node, is_between in depends.items() if is_between)


def is_alone(norm: Norm) -> bool:
    """Whether nothing but the norm reads what it norms."""
    readers = set(norm.input.consumers())
    return readers <= set(between(norm.input, norm.output)) and not norm.input.is_graph_output()
