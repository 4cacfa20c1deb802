"""Where the output of an adapter is added, so that an adapter of zeros changes no bit of what the backbone computes.

Behind a MatMul with a bias, delta is added before the bias:

    o = (m + delta) + b        instead of        o = (m + b) + delta.

With delta = 0 both are m + b, but only in the first does the bias stay where optimisers fuse it with what follows, in
the same order of summation as in the backbone alone. Elsewhere delta is added as in the plain form.
"""

from collections.abc import Callable

import onnx_ir as ir

from compacter_core.vocabulary import Input
from compacter_exporters.emitter import Emitter
from compacter_exporters.forms import connect, second_sum
from compacter_exporters.linkage.opened import Place
from compacter_exporters.rewire import redirect

Delta = Callable[[ir.Value], ir.Value]


def insert(emitter: Emitter, place: Place, delta: Delta) -> ir.Value:
    """Put an adapter at a site.

    Args:
        emitter: of the site; its nodes go into the graph.
        place: the site.
        delta: emits the nodes from the value the adapter reads (m where the place says so) to its output.

    Returns:
        o = skip + delta(x).
    """
    if not place.is_before_bias:
        return connect(emitter, place.layer.output, delta, around=place.around, attach=place.attach)
    if place.attach.input is Input.NORMED_SUM:
        return _twice(emitter, place, delta)
    add, m = place.layer.bias_add, place.layer.product
    if add is None:  # is_before_bias says that there is one
        raise TypeError("no bias to add before")
    x = place.around.residual if place.attach.input is Input.RESIDUAL else m
    total = emitter.op("Add", [m, delta(x)], "before_bias", like=m)
    place.graph.insert_before(add, emitter.nodes)
    # Where the bias is the second operand of a sum, ONNX Runtime fuses it whatever the first one is.
    bias = add.inputs[1] if add.inputs[0] is m else add.inputs[0]
    add.replace_input_with(0, total)
    add.replace_input_with(1, bias)
    return add.outputs[0]


def _twice(emitter: Emitter, place: Place, delta: Delta) -> ir.Value:
    """The adapter reads N(r + h): bias, residual sum and norm are there a second time, behind m + delta."""
    around, m, add = place.around, place.layer.product, place.layer.bias_add
    result = around.result
    producer = result.producer()
    if add is None or producer is None:  # is_before_bias says so; and a sum or a norm is a node
        raise TypeError("no bias or no norm behind the sublayer")
    uses = tuple(result.uses())
    total = emitter.op("Add", [m, delta(result)], "before_bias", like=m)
    biases = [value for value in add.inputs if value is not m and value is not None]
    o = emitter.op("Add", [total, *biases], "output", like=m)
    after = second_sum(emitter, around, o)
    place.graph.insert_after(producer, emitter.nodes)
    redirect(place.graph, result, after, uses)
    return o
