"""The form of an adapter without an activation: a linear layer with other weights, and nothing else (ONX-30).

    y = a W' + b',    W' = W M,   b' = b M + c,   M = I + Wd Wu',   c = bd Wu' + bu'

W' and b' are computed in float64 and rounded once. Verification finds the layer by undoing this, for the sketch is that
of W: an entry of W' M^-1 is off by what rounding W' does to it, at most u |W'| |M^-1|.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter, Array, DType, SiteParameters
from compacter_core.config import AdapterConfig, Attach, Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import THRESHOLD, similarity, sketch_indices, weight_name
from compacter_core.reference.dissolved import AffineMap
from compacter_core.vocabulary import Activation, Input, Skip
from compacter_exporters.emitter import Emitter
from compacter_exporters.graph import constant_of, consumers, numpy_type
from compacter_exporters.linears import Linear, find_linears
from compacter_exporters.rewire import redirect, replace_input

_ROUNDOFF: Final = {ir.DataType.FLOAT: DType.F32.roundoff, ir.DataType.DOUBLE: DType.F64.roundoff}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DissolvedLinear(Linear):
    """A layer with an adapter dissolved in it; its weight and bias are those without the adapter, in float64.

    Args:
        weight_before: W [in, d], the same as the weight.
        weight_after: W' [in, d], as the graph has it.
        bias_after: b' [d], zeros where the graph has none.
        bias_error: how far the bias may be off, [d].
    """

    weight_before: Array
    weight_after: Array
    bias_after: Array
    bias_error: Array


def check_dissolvable(config: AdapterConfig, site: Site) -> None:
    """Check that a site's adapter is affine in the output of its linear layer.

    Raises:
        CompacterError: E605 for an activation, or a placement where it reads or adds to something else.
    """
    attach = config.attach_of(site)
    if config.non_linearity is not Activation.IDENTITY:
        raise CompacterError(
            ErrorCode.E605,
            f"site {site.id} cannot be dissolved in its linear layer: what is between the projections is not linear",
            value=f"activation {config.non_linearity.value}",
            expected=f"activation {Activation.IDENTITY.value}",
            remedy="Use the form auto; no weight computes what such an adapter does.",
        )
    if not _is_around_output(attach):
        raise CompacterError(
            ErrorCode.E605,
            f"site {site.id} cannot be dissolved in its linear layer: its adapter does not both read and add to the "
            "layer's output",
            value=str(attach),
            expected="input = skip = sublayer_output",
            remedy="Use the form auto; the residual stream goes past the layer.",
        )


def _is_around_output(attach: Attach) -> bool:
    return attach.input is Input.SUBLAYER_OUTPUT and attach.skip is Skip.SUBLAYER_OUTPUT


def emit_dissolved(emitter: Emitter, layer: Linear, site: SiteParameters, sketch: Array) -> ir.Value:
    """Give a site's linear layer the weight and bias of layer and adapter together.

    Args:
        emitter: of the site.
        layer: its linear layer.
        site: its adapter.
        sketch: of the layer's weight.

    Returns:
        y.

    Raises:
        CompacterError: E605 for a weight in another type than float32 or float64, and for an adapter that cannot be
            undone, since M is nearly singular.
    """
    if layer.dtype not in _ROUNDOFF or not isinstance(layer.weight, np.ndarray):
        raise CompacterError(
            ErrorCode.E605,
            f"the weight of {layer.node.name} is too coarse for an adapter to be recognised in it",
            value=layer.dtype.name if layer.quantised is None else f"quantised, in {layer.node.op_type}",
            expected="float32 or float64",
            remedy="Use the form auto, or dissolve the adapter before the weights are rounded.",
        )
    both = AffineMap.of(site)
    W, b = both(layer.weight, layer.bias_or_zero)
    W = W.astype(numpy_type(layer.dtype))
    if not _agrees(_Undone.of(both, W, layer.dtype), sketch):
        raise CompacterError(
            ErrorCode.E605,
            "the adapter takes away so much of what its linear layer computes that it could not be undone",
            value=layer.node.name,
            expected="a well-conditioned I + scaling Wd Wu",
            remedy="Use the form auto.",
        )
    replace_input(layer.node, 1, emitter.constant("weight", W.T if layer.weight_is_transposed else W))
    if layer.bias is None and not b.any():
        return layer.output
    bias, slot = emitter.constant("bias", b), layer.bias_slot
    if slot is not None:
        replace_input(slot.node, slot.index, bias)
        return layer.output
    uses = tuple(layer.output.uses())
    y = emitter.op("Add", [layer.output, bias], "output", like=layer.output)
    emitter.graph.insert_after(layer.node, emitter.nodes)
    redirect(emitter.graph, layer.output, y, uses)
    return y


def undissolved_linears(graph: ir.Graph, adapter: Adapter) -> list[Linear]:
    """The linear layers of a graph; those that this adapter is dissolved in with the weights that they had before."""
    layers = find_linears(graph)
    config = adapter.config
    candidates = [
        (one, one.weight)
        for one in layers
        if one.dtype in _ROUNDOFF and one.weight.shape[1] == config.hidden_size and isinstance(one.weight, np.ndarray)
    ]
    undone: dict[ir.Node, Linear] = {}
    for site in config.sites:
        sketch = adapter.sketches.get(weight_name(site.id))
        affine = config.non_linearity is Activation.IDENTITY and _is_around_output(config.attach_of(site))
        if sketch is None or not affine:
            continue
        both = AffineMap.of(adapter.site(site.id))
        for layer, W in candidates:
            if not _feeds_adapter(layer, site) and _agrees(_Undone.of(both, W, layer.dtype), sketch):
                undone[layer.node] = _undo(layer, W, both, sketch)
    return [undone.get(layer.node, layer) for layer in layers]


def _feeds_adapter(layer: Linear, site: Site) -> bool:
    """Whether an adapter reads the layer's output. An adapter of zeros, dissolved, leaves no other trace."""
    shape = layer.weight.shape[1], site.bottleneck_size
    readers = [node for value in (layer.product, layer.output) for node in consumers(value, "MatMul")]
    constants = (constant_of(node.inputs[1]) for node in readers)
    return any(constant is not None and constant.view.shape == shape for constant in constants)


@dataclass(frozen=True, slots=True, eq=False)
class _Undone:
    """Entries of W' M^-1 at the sketch's positions, and how far each may be from that of W."""

    entries: Array
    error: Array

    @classmethod
    def of(cls, both: AffineMap, W: Array, dtype: ir.DataType) -> "_Undone":
        back = both.inverse()
        rows, columns = np.unravel_index(sketch_indices(W.shape), W.shape)
        some = W[rows].astype(np.float64)
        # Only one column of each row is asked for, but the product with [k, d] is the cheaper half.
        place = np.arange(len(rows)), columns
        # Twice the roundoff covers that of W', and all of float64.
        return cls(back.linear(some)[place], 2 * _ROUNDOFF[dtype] * back.magnitude(some)[place])


def _agrees(undone: _Undone, sketch: Array) -> bool:
    """Whether these are the sketched entries, which are float32: they correlate, and each is within its error.

    A looser limit, as for weights that were cast, would take a backbone for one with a faint adapter in it.
    """
    if undone.entries.shape != sketch.shape or not np.isfinite(undone.entries).all():
        return False
    if similarity(sketch, undone.entries.astype(np.float32)) < THRESHOLD:
        return False
    return bool(np.all(np.abs(undone.entries - sketch) <= DType.F32.roundoff * np.abs(sketch) + undone.error))


def _undo(layer: Linear, W_after: Array, both: AffineMap, sketch: Array) -> DissolvedLinear:
    """The layer with the weight it had; where the sketch has entries, these: they are known better than by undoing."""
    back = both.inverse()
    W, b = back(W_after, layer.bias_or_zero)
    W.reshape(-1)[sketch_indices(W.shape)] = sketch
    kept = {field.name: getattr(layer, field.name) for field in fields(Linear)}
    return DissolvedLinear(
        **kept | {"weight": W, "bias": b},
        weight_before=W,
        weight_after=W_after,
        bias_after=layer.bias_or_zero,
        bias_error=2 * _ROUNDOFF[layer.dtype] * back.magnitude(layer.bias_or_zero),
    )
