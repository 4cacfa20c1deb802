"""Where the output of an adapter is added, so that an adapter of zeros changes no bit of what the backbone computes.

Behind a MatMul with a bias, delta is added before the bias:

    o = (m + delta) + b        instead of        o = (m + b) + delta.

With delta = 0 both are m + b, but only in the first does the bias stay where optimisers fuse it with what follows, in
the same order of summation as in the backbone alone. Elsewhere delta is added as in the plain form.

A bank may add the bias of the row's up-projection, which is small, to b instead of to each token's delta:

    o = (m + act(..) Wu) + (b + bu).
"""

from collections.abc import Callable
from typing import Final

import onnx_ir as ir

from compacter_core.vocabulary import Input
from compacter_exporters.emitter import Emitter
from compacter_exporters.forms import connect, second_sum
from compacter_exporters.graph import other_input
from compacter_exporters.linkage.opened import Place
from compacter_exporters.rewire import redirect

Delta = Callable[[ir.Value], ir.Value]
BIAS: Final = "bias"
"""Name of the node that sums b and bu."""


def insert(emitter: Emitter, place: Place, delta: Delta, *, bias: ir.Value | None = None) -> ir.Value:
    """Put an adapter at a site.

    Args:
        emitter: of the site; its nodes go into the graph.
        place: the site.
        delta: emits the nodes from the value the adapter reads (m where the place says so) to its output.
        bias: what is added to the linear's bias, for a place before it.

    Returns:
        o = skip + delta(x).
    """
    if not place.is_before_bias:
        return connect(emitter, place.layer.output, delta, around=place.around, attach=place.attach)
    if place.attach.input is Input.NORMED_SUM:
        return _twice(emitter, place, delta, bias)
    add, m = place.layer.bias_add, place.layer.product
    if add is None:  # is_before_bias says that there is one
        raise TypeError("no bias to add before")
    x = place.around.residual if place.attach.input is Input.RESIDUAL else m
    total = emitter.op("Add", [m, delta(x)], "before_bias", like=m)
    b = _whole_bias(emitter, place, add, bias)
    place.graph.insert_before(add, emitter.nodes)
    # Where the bias is the second operand of a sum, ONNX Runtime fuses it whatever the first one is.
    add.replace_input_with(0, total)
    add.replace_input_with(1, b)
    return add.outputs[0]


def _whole_bias(emitter: Emitter, place: Place, add: ir.Node, more: ir.Value | None) -> ir.Value:
    """The bias that a linear adds, with what the rows add to it."""
    b = other_input(add, place.layer.product)
    if b is None:
        raise TypeError("no bias to add before")
    return b if more is None else emitter.op("Add", [b, more], BIAS)


def _twice(emitter: Emitter, place: Place, delta: Delta, bias: ir.Value | None) -> ir.Value:
    """The adapter reads N(r + h): bias, residual sum and norm are there a second time, behind m + delta."""
    around, m, add = place.around, place.layer.product, place.layer.bias_add
    result = around.result
    producer = result.producer()
    if add is None or producer is None:  # is_before_bias says so; and a sum or a norm is a node
        raise TypeError("no bias or no norm behind the sublayer")
    uses = tuple(result.uses())
    total = emitter.op("Add", [m, delta(result)], "before_bias", like=m)
    o = emitter.op("Add", [total, _whole_bias(emitter, place, add, bias)], "output", like=m)
    after = second_sum(emitter, around, o)
    place.graph.insert_after(producer, emitter.nodes)
    redirect(place.graph, result, after, uses)
    return o
