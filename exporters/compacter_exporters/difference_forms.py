"""The forms of graphs whose residual sums are kept apart from norms: bias-first and column.

The residual sum y = r + o is written y = r - (-o), which no session fuses with a norm; -o costs nothing, since the
up-projection is stored with the other sign (`fused.differences`):

    bias-first   -o = act(h' Wd + (bd - bu' Wd)) (-Wu') - h',    h' = m + (b + bu')
    column       -o = act([m Wd + (bd + b Wd), z]) (-[Wu'; (b + bu') / act(z)]) - m
"""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import SiteParameters
from compacter_core.linkage.dense import Dense
from compacter_core.reference.column import with_column
from compacter_exporters.emitter import Emitter
from compacter_exporters.forms import bottleneck
from compacter_exporters.fused.differences import subtract
from compacter_exporters.graph import Slot
from compacter_exporters.linears import Linear
from compacter_exporters.rewire import read_shape_of, replace_input
from compacter_exporters.surroundings import Surroundings


def emit_bias_first(
    emitter: Emitter, layer: Linear, slot: Slot, site: SiteParameters, opset: int, *, around: Surroundings
) -> ir.Value:
    """Put a site's adapter behind its linear layer, and its last bias into the layer's own, which is at `slot`.

    With h' = h + bu', h Wd + bd = h' Wd + (bd - bu' Wd), and o = h + (p + bu') = h' + p.

    Returns:
        -o.
    """
    dense = Dense.of(site)
    if dense.bu is not None:
        bias = emitter.constant("up.bias", layer.bias_or_zero.astype(np.float64) + dense.bu)
        replace_input(slot.node, slot.index, bias)
        down = dense.bu @ dense.Wd
        dense = replace(dense, bd=-down if dense.bd is None else dense.bd - down, bu=None)
    return _subtract(emitter, layer.output, dense, site, opset, around=around)


def emit_column(emitter: Emitter, layer: Linear, site: SiteParameters, opset: int, *, around: Surroundings) -> ir.Value:
    """Put a site's adapter in the place of its linear layer's bias, which it adds with its own, within a product.

    o = m + act(m Wd+ + c_d+) Wu+, as in `compacter_core.reference.column`.

    Returns:
        -o.
    """
    m, parts = layer.product, with_column(site, layer.bias_or_zero)
    read_shape_of(layer.output, m)
    return _subtract(emitter, m, Dense.of(parts), site, opset, around=around)


def _subtract(
    emitter: Emitter, x: ir.Value, dense: Dense, site: SiteParameters, opset: int, *, around: Surroundings
) -> ir.Value:
    """Let the residual sum take away -o = act(x Wd + bd) (-Wu) - x."""
    p = bottleneck(emitter, x, replace(dense, Wu=-dense.Wu), site, opset)
    negative = emitter.op("Sub", [p, x], "output/negated", like=x)
    emitter.graph.insert_before(around.add, emitter.nodes)
    subtract(around.add, around.residual, negative)
    return negative
