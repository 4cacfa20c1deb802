"""The forms of one merged adapter in a graph.

With m = a W the product of the sublayer's last linear layer, b its bias and h = m + b:

    plain:  y = skip + (act(x Wd + bd) Wu' + bu')                         any placement
    fold:   y = m + (act(m Wd + (bd + b Wd)) Wu' + (bu' + b))             x = skip = h only
    bias-last:  y = (m + act(m Wd + (bd + b Wd)) Wu') + (bu' + b)         as fold, where b has a node of its own
    bias-first:  y = h' + act(h' Wd + (bd - bu' Wd)) Wu',  h' = m + (b + bu')    as fold, where there is a b
    column:  y = m + act([m Wd + (bd + b Wd), z]) [Wu'; (bu' + b) / act(z)]    as bias-last

where Wu' = scaling Wu and bu' = scaling bu. Fold is exact algebra on plain (h Wd = m Wd + b Wd), needs one node less
and keeps the LayerNorm <- Add <- MatMul chain that optimisers look for. All constants are computed in float64, the
Kronecker sums written out, and rounded once to the graph's type.

Bias-last is fold with the bias where the backbone has it: one node less, and a session still fuses it into the norm
behind (SkipLayerNormalization with a bias). Where residual sums are kept apart from norms (`optimise.sums`) no norm
takes a bias, and two other forms cost less (`difference_forms`). Bias-first leaves the bias where it is added in the
backbone, behind the product: nothing is added behind p, and a session that fuses bias and product, as it does in int8,
still does so. Column adds the bias within the up-projection, whose input has one column more, the constant act(z): one
pass over the hidden states less wherever the bias has a node of its own.

Two other forms were measured and dropped: [W, W Wd] in the place of W multiplies four times as much in a feed-forward
layer, and its Split copies what it saves; Gemms that add m themselves need two Reshapes. Fold remains for optimisers in
Python that run after the graft: their patterns for attention want the product beside the residual sum. Without an
activation the adapter can also be `dissolved` in the linear layer, of which there is more in `dissolving`. A `function`
of the model can compute what stands in the brackets of the plain form, or all of the `sublayer` that
is behind m, the residual sum and the norm as well (`functions`). There are kernels for both, with which sublayer is the
fastest form on CPUs.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import SiteParameters
from compacter_core.config import Attach
from compacter_core.linkage.dense import Dense
from compacter_core.vocabulary import Input, Skip
from compacter_exporters.activations import emit_activation
from compacter_exporters.emitter import Emitter
from compacter_exporters.linears import Linear
from compacter_exporters.norms import between
from compacter_exporters.rewire import drop_unused, redirect, replace_input
from compacter_exporters.surroundings import Surroundings


class Form(StrEnum):
    """How an adapter is written into a graph.

    `auto` takes bias-last where the placement allows it and the layer's bias is a node of its own, fold where it is
    not, and plain for other placements; a recipe for CPUs prefers column and bias-first.
    """

    BIAS_LAST = "bias-last"
    BIAS_FIRST = "bias-first"
    COLUMN = "column"
    FOLD = "fold"
    PLAIN = "plain"
    DISSOLVED = "dissolved"
    FUNCTION = "function"
    SUBLAYER = "sublayer"
    AUTO = "auto"


def allows_fold(attach: Attach) -> bool:
    """Whether the adapter reads h and adds to h."""
    return attach.input is Input.SUBLAYER_OUTPUT and attach.skip is Skip.SUBLAYER_OUTPUT


def emit_fold(emitter: Emitter, layer: Linear, site: SiteParameters, opset: int) -> ir.Value:
    """Put a site's adapter before the linear layer's bias.

    Returns:
        y.
    """
    dense = before_bias(site, layer)
    m = layer.product
    uses = tuple(m.uses())
    v = bottleneck(emitter, m, dense, site, opset)
    if layer.bias_add is not None:
        emitter.graph.insert_before(layer.bias_add, emitter.nodes)
        replace_input(layer.bias_add, 1 if layer.bias_add.inputs[0] is m else 0, v)
        return layer.output
    y = emitter.op("Add", [m, v], "output", like=m)
    emitter.graph.insert_after(layer.cast or layer.node, emitter.nodes)
    if layer.bias is not None:
        bias = layer.node.inputs[2]
        layer.node.resize_inputs(2)
        drop_unused(bias)
    redirect(emitter.graph, m, y, uses)
    return y


def emit_bias_last(emitter: Emitter, layer: Linear, bias_add: ir.Node, site: SiteParameters, opset: int) -> ir.Value:
    """Put a site's adapter before the linear layer's bias, and its own bias into that.

    Returns:
        m + act(..) Wu', to which `bias_add` adds the rest.
    """
    dense, m = before_bias(site, layer), layer.product
    p = bottleneck(emitter, m, replace(dense, bu=None), site, opset)
    total = emitter.op("Add", [m, p], "sum", like=m)
    place = 0 if bias_add.inputs[0] is m else 1
    if site.up.b is not None and dense.bu is not None:
        replace_input(bias_add, 1 - place, emitter.constant("up.bias", dense.bu))
    emitter.graph.insert_before(bias_add, emitter.nodes)
    replace_input(bias_add, place, total)
    return total


def before_bias(site: SiteParameters, layer: Linear) -> Dense:
    """The adapter for m instead of h, with the layer's bias in its own: bd + b Wd and bu' + b."""
    dense = Dense.of(site)
    if layer.bias is None:
        return dense
    b = layer.bias.astype(np.float64)
    down = b @ dense.Wd
    return replace(
        dense,
        bd=down if dense.bd is None else dense.bd + down,
        bu=b if dense.bu is None else dense.bu + b,
    )


def emit_plain(
    emitter: Emitter, layer: Linear, site: SiteParameters, opset: int, *, around: Surroundings, attach: Attach
) -> ir.Value:
    """Put a site's adapter behind its linear layer, in any placement.

    Returns:
        o = skip + delta(x).
    """
    dense, h = Dense.of(site), layer.output
    return connect(emitter, h, lambda x: bottleneck(emitter, x, dense, site, opset), around=around, attach=attach)


def connect(
    emitter: Emitter, h: ir.Value, delta: Callable[[ir.Value], ir.Value], *, around: Surroundings, attach: Attach
) -> ir.Value:
    """Put an adapter behind h, in any placement.

    Args:
        emitter: of the site.
        h: the result of the sublayer's last linear layer.
        delta: emits the nodes from x to delta(x).
        around: what follows h.
        attach: the placement.

    Returns:
        o = skip + delta(x).
    """
    x = {Input.SUBLAYER_OUTPUT: h, Input.RESIDUAL: around.residual, Input.NORMED_SUM: around.result}[attach.input]
    skip = {Skip.SUBLAYER_OUTPUT: h, Skip.RESIDUAL_SUM: around.sum, Skip.NORMED_SUM: around.result}[attach.skip]
    graph, result = emitter.graph, around.result
    uses = tuple(result.uses())
    o = emitter.op("Add", [skip, delta(x)], "output", like=h)
    if attach.post and attach.input is not Input.NORMED_SUM:
        graph.insert_before(around.add, emitter.nodes)
        around.add.replace_input_with(0 if around.add.inputs[0] is h else 1, o)
        return o
    # N(r + h) is needed as the input, and N(r + o) as the result: the sum and the norm are there twice.
    after = second_sum(emitter, around, o) if attach.post else o
    producer = result.producer()
    if producer is None:  # the residual sum and the norm are nodes
        raise TypeError("the result of a sublayer has no producer")
    graph.insert_after(producer, emitter.nodes)
    redirect(graph, result, after, uses)
    return o


def second_sum(emitter: Emitter, around: Surroundings, o: ir.Value) -> ir.Value:
    """N(r + o), computed by copies of the nodes of N(r + h)."""
    total = emitter.op("Add", [around.residual, o], "sum", like=o)
    if around.norm is None:
        return total
    copies: dict[ir.Value | None, ir.Value] = {around.norm.input: total}
    for position, node in enumerate(between(around.norm.input, around.norm.output)):
        prefix = f"{emitter.prefix}/norm/{position}"
        copy = ir.Node(
            node.domain,
            node.op_type,
            [copies.get(value, value) for value in node.inputs],
            node.attributes.values(),
            num_outputs=len(node.outputs),
            name=prefix,
            metadata_props=dict(emitter.labels),
        )
        for index, (old, new) in enumerate(zip(node.outputs, copy.outputs, strict=True)):
            new.name = f"{prefix}/{index}"
            new.type, new.shape = old.type, old.shape
            copies[old] = new
        emitter.nodes.append(copy)
    return copies[around.norm.output]


def bottleneck(emitter: Emitter, x: ir.Value, dense: Dense, site: SiteParameters, opset: int) -> ir.Value:
    """act(x Wd + bd) Wu + bu."""
    k = dense.Wd.shape[1]
    z = emitter.op("MatMul", [x, emitter.constant("down.weight", dense.Wd)], "down", like=x, last=k)
    if dense.bd is not None:
        z = emitter.op("Add", [z, emitter.constant("down.bias", dense.bd)], "down/bias", like=z)
    a = emit_activation(emitter, site.non_linearity, z, opset)
    v = emitter.op("MatMul", [a, emitter.constant("up.weight", dense.Wu)], "up", like=x)
    if dense.bu is not None:
        v = emitter.op("Add", [v, emitter.constant("up.bias", dense.bu)], "up/bias", like=x)
    return v
