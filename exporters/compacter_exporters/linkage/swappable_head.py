"""The head of a swappable graph: the adapter's if it has one, else the backbone's.

Runtimes pack constant weights and sum them in another order than others, so the backbone's layer stays as it is, and
its result is used where the adapter's weight has no rows:

    y = first n columns of [x W'^T + b', backbone's y],    n = rows of W', or the backbone's outputs if there are none.
"""

import numpy as np
import onnx_ir as ir

from compacter_core.layout import Part
from compacter_core.linkage.swappable import part_input
from compacter_exporters.emitter import Emitter
from compacter_exporters.heads import HeadLayer
from compacter_exporters.linkage.opened import Places, head_shapes
from compacter_exporters.linkage.values import integers_of, open_input
from compacter_exporters.rewire import redirect

LABELS = "labels"
HEAD_LABEL = "compacter.part"


def open_head(places: Places) -> None:
    """Let every layer of the head take its weight [out, in] and bias [out] from inputs that are empty by default."""
    chosen = [_open_layer(places, layer) for layer in places.head]
    for layer, result in zip(places.head[-1:], chosen[-1:], strict=True):
        # Runtimes reuse memory by the shapes that a graph names.
        for value in (*layer.path, result):
            if value.shape is not None and len(value.shape) > 0:
                value.shape = ir.Shape([*list(value.shape)[:-1], LABELS])


def _open_layer(places: Places, layer: HeadLayer) -> ir.Value:
    """The layer's result, whichever it is."""
    graph, linear = places.model.graph, layer.linear
    n_in, n_out = linear.weight.shape
    name, rows = part_input(Part.HEAD, layer.name), f"{layer.name}.rows"
    weight = open_input(graph, f"{name}.weight", np.zeros((0, n_in)), linear.dtype, [rows, n_in])
    bias = None
    if f"{layer.name}.bias" in head_shapes(places.template.config):
        bias = open_input(graph, f"{name}.bias", np.zeros(0), linear.dtype, [rows])
    emitter = Emitter(graph, name, linear.dtype, {HEAD_LABEL: Part.HEAD.value})
    backbone = linear.output
    uses = tuple(backbone.uses())
    own = emitter.op("MatMul", [linear.input, emitter.op("Transpose", [weight], "transposed")], "product")
    own = own if bias is None else emitter.op("Add", [own, bias], "biased")
    joined = emitter.op("Concat", [own, backbone], "joined", attributes={"axis": -1})
    chosen = emitter.op("Slice", [joined, *_limits(emitter, weight, n_out)], "chosen", like=backbone)
    producer = backbone.producer()
    if producer is None:  # a linear layer ends in a node
        raise TypeError("the head's layer has no producer")
    graph.insert_after(producer, emitter.nodes)
    redirect(graph, backbone, chosen, uses)
    return chosen


def _limits(emitter: Emitter, weight: ir.Value, n_out: int) -> list[ir.Value]:
    """Starts, ends and axes of the columns that count."""
    integers = integers_of(emitter)
    zero = integers.constant("zero", np.array([0]))
    rows = integers.op("Gather", [integers.op("Shape", [weight], "shape"), zero], "rows")
    truths = Emitter(emitter.graph, emitter.prefix, ir.DataType.BOOL, emitter.labels, nodes=emitter.nodes)
    is_empty = truths.op("Equal", [rows, zero], "empty")
    end = integers.op("Where", [is_empty, integers.constant("outputs", np.array([n_out])), rows], "end")
    return [zero, end, integers.constant("last", np.array([-1]))]
