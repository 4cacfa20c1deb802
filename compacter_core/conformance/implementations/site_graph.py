"""One site's adapter as an ONNX graph, written by the exporter's own code around the end of one sublayer.

    forward     inputs x, skip: the plain form, in the placement that reads r and adds to h, with r = x and h = skip
    sublayer    inputs r, a: h = a W + b, W the identity; then r + h and N; in whatever form the exporter chooses

The fold form has no part in `forward`. It takes m = h - b, so its rounding errors grow with |m| and |b| where those of
y = h + delta(h) grow with |h| (`reference.bounds.fold_bound`): with b = 0 it is the plain form, and with another b the
bounds of the test vectors, which are for plain, do not apply. In `sublayer` all numbers are small integers, which both
forms compute exactly, and there every site that can be folded is.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter, Array, SiteParameters
from compacter_core.config import Attach
from compacter_core.vocabulary import Input
from compacter_exporters.emitter import Emitter
from compacter_exporters.forms import allows_fold, emit_fold, emit_plain
from compacter_exporters.graph import Slot, other_input
from compacter_exporters.linears import Linear, linear_of
from compacter_exporters.norms import Norm
from compacter_exporters.surroundings import Surroundings

IR_VERSION: Final = 10


@dataclass(frozen=True, slots=True, eq=False)
class SiteGraph:
    """A graph and the names of what it computes.

    Args:
        model: the graph.
        outputs: name in the graph of each answer.
    """

    model: ir.Model
    outputs: dict[str, str]


def forward_graph(site: SiteParameters, shape: tuple[int, ...], dtype: ir.DataType, opset: int) -> SiteGraph:
    """`delta` and `y` of a site, for inputs `x` and `skip` of this shape [..., d]."""
    x, skip = (_input(name, shape, dtype) for name in ("x", "skip"))
    graph = _graph([x, skip], opset)
    # Not a linear layer, but all that the plain form wants of one is a value h with a node that makes it.
    h = _node(graph, "Identity", [skip], "h")
    total = _node(graph, "Add", [x, h.outputs[0]], "sum")
    layer = Linear(h, np.zeros((shape[-1], shape[-1])), dtype)
    around = Surroundings(residual=x, add=total, norm=None)
    y = emit_plain(_emitter(graph, dtype), layer, site, opset, around=around, attach=Attach(input=Input.RESIDUAL))
    write = y.producer()
    delta = None if write is None else other_input(write, h.outputs[0])
    if delta is None:  # the plain form ends with a sum of h and delta
        raise TypeError("the plain form has no sum at its end")
    return _finish(graph, {"delta": delta, "y": y})


def sublayer_graph(
    adapter: Adapter, site_id: str, bias: Array, *, shape: tuple[int, ...], dtype: ir.DataType, opset: int
) -> SiteGraph:
    """`result` of a sublayer with h = a + bias, for inputs `r` and `a` [..., d], `gain` and `offset` [d]."""
    r, a = (_input(name, shape, dtype) for name in ("r", "a"))
    gain, offset = (_input(name, shape[-1:], dtype) for name in ("gain", "offset"))
    graph = _graph([r, a, gain, offset], opset)
    identity = _constant(graph, "weight", np.eye(shape[-1]), dtype)
    product = _node(graph, "MatMul", [a, identity], "product")
    h = _node(graph, "Add", [product.outputs[0], _constant(graph, "bias", bias, dtype)], "h").outputs[0]
    total = _node(graph, "Add", [r, h], "sum")
    scaled = _node(graph, "Mul", [total.outputs[0], gain], "scaled")
    normed = _node(graph, "Add", [scaled.outputs[0], offset], "normed")
    graph.outputs.append(normed.outputs[0])
    norm = Norm(total.outputs[0], normed.outputs[0], Slot(scaled, 1), Slot(normed, 1), epsilon=0.0)
    layer = linear_of(product)
    if layer is None:
        raise TypeError("a MatMul with a constant is a linear layer")
    attach = adapter.config.attach_of(adapter.config.site(site_id))
    site, emitter = adapter.site(site_id), _emitter(graph, dtype)
    if allows_fold(attach):
        emit_fold(emitter, layer, site, opset)
    else:
        around = Surroundings(residual=r, add=total, norm=norm)
        emit_plain(emitter, layer, site, opset, around=around, attach=attach)
    return _finish(graph, {"result": graph.outputs[0]})


def _graph(inputs: list[ir.Value], opset: int) -> ir.Graph:
    return ir.Graph(inputs, [], nodes=[], opset_imports={"": opset}, name="site")


def _input(name: str, shape: tuple[int, ...], dtype: ir.DataType) -> ir.Value:
    return ir.val(name, dtype, list(shape))


def _node(graph: ir.Graph, op_type: str, inputs: list[ir.Value], name: str) -> ir.Node:
    """A node whose output is shaped as its first input."""
    node = ir.node(op_type, inputs, name=name)
    node.outputs[0].name = name
    node.outputs[0].type, node.outputs[0].shape = inputs[0].type, inputs[0].shape
    graph.append(node)
    return node


def _constant(graph: ir.Graph, name: str, values: Array, dtype: ir.DataType) -> ir.Value:
    array = values.astype(dtype.numpy())
    value = ir.val(name, dtype, list(array.shape), const_value=ir.Tensor(array, dtype, name=name))
    graph.register_initializer(value)
    return value


def _emitter(graph: ir.Graph, dtype: ir.DataType) -> Emitter:
    return Emitter(graph, "compacter/site", dtype, {})


def _finish(graph: ir.Graph, outputs: dict[str, ir.Value]) -> SiteGraph:
    """The graph with these values as its outputs."""
    graph.outputs.clear()
    graph.outputs.extend(outputs.values())
    names = {answer: str(value.name) for answer, value in outputs.items()}
    return SiteGraph(ir.Model(graph, ir_version=IR_VERSION), names)
