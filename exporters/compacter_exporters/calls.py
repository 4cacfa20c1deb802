"""The forms of an adapter as a call of a function of the model (ONX-36, ONX-54).

Sites whose adapters differ in their tensors alone call one function. In the form function that computes delta, and what
stands around delta is that of the plain form. In the form sublayer the call is all that follows the sublayer's last
product: the linear layer's bias, where that has a node of its own, the adapter, the residual sum, and the norm, where
nothing else reads the sum.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from compacter_core.adapter import Array, SiteParameters
from compacter_core.linkage.dense import Dense
from compacter_core.linkage.factors import Factors
from compacter_core.vocabulary import Activation
from compacter_exporters.emitter import Emitter
from compacter_exporters.forms import before_bias
from compacter_exporters.functions import DOMAIN, Kind, Signature
from compacter_exporters.graph import constant_of
from compacter_exporters.linears import Linear
from compacter_exporters.norms import Norm, is_alone
from compacter_exporters.rewire import drop_unused, read_shape_of, redirect
from compacter_exporters.surroundings import Surroundings
from compacter_exporters.weights import Weights

_VERSION: Final = 1
_FUNCTIONS_SINCE: Final = 8
"""The version of ONNX's representation from which on models have functions."""

_NORMS_SINCE: Final = 17
"""The opset that has LayerNormalization."""


def calls_of(model: ir.Model, emitter: Emitter, site: SiteParameters) -> Callable[[ir.Value], ir.Value]:
    """What emits a site's delta(x) as a call; the model has the function then.

    Args:
        model: gets the function, where it does not have it.
        emitter: of the site.
        site: its adapter.
    """
    return lambda x: _call(model, emitter, Kind.DELTA, [x], site=site, dense=Dense.of(site))


def emit_sublayer(
    model: ir.Model, emitter: Emitter, layer: Linear, site: SiteParameters, *, around: Surroundings
) -> ir.Value:
    """Put a call in the place of all that follows a sublayer's last product, or its bias where that is no node.

    Args:
        model: gets the function, where it does not have it.
        emitter: of the site.
        layer: the linear layer, whose output the adapter reads and is added to.
        site: the adapter.
        around: what follows the layer.

    Returns:
        r + o, or N of it.
    """
    dense, x = (Dense.of(site), layer.output) if layer.last_add is None else (before_bias(site, layer), layer.product)
    kind, last, norm = _end_of(model, emitter, around)
    read = [x, around.residual]
    y = _call(model, emitter, kind, read, site=site, dense=dense, norm=norm)
    _take_place(emitter, layer, around, last, read=x, call=y)
    return y


def emit_open_sublayer(
    model: ir.Model,
    emitter: Emitter,
    layer: Linear,
    tensors: Mapping[str, ir.Value],
    *,
    weights: Weights,
    activation: Activation,
    around: Surroundings,
    site: int,
) -> ir.Value:
    """Put a call in the place of a linear's bias, the residual sum and the norm, for tensors that are given with a run.

    Args:
        model: gets the function, where it does not have it.
        emitter: of the site.
        layer: the linear layer, whose product the adapter reads and is added to.
        tensors: what the function reads, by its inputs, but for x, r and b; down_bias is that of the adapter for m.
            The norm's are those of the graph where they are missing; from tensors of all sites it has to have them,
            or the call has no norm.
        weights: how the tensors are given.
        activation: act.
        around: what follows the layer.
        site: which of those that the tensors are of.

    Returns:
        r + (m + (act(..) Wu' + (b + bu'))), or N of it.
    """
    m, slot = layer.product, layer.bias_slot
    if layer.last_add is None or slot is None or slot.value is None:  # linkages ask before
        raise TypeError("no bias behind the linear layer's product")
    kind, last, norm = _end_of(model, emitter, around)
    if weights.are_by_site and "gain" not in tensors:
        kind, last, norm = Kind.RESIDUAL, around.sum, None
    signature = Signature(kind, activation, True, True, emitter.dtype, weights=weights, has_b=True)
    given = {"x": m, "r": around.residual, "bias": slot.value, **_vectors_of(norm), **tensors}
    inputs = [given[name] for name in signature.inputs]
    y = _call_of(model, emitter, signature, inputs, {**_epsilon(norm), "site": site})
    _take_place(emitter, layer, around, last, read=m, call=y)
    return y


def merge_into_call(model: ir.Model, emitter: Emitter, call: ir.Node, site: SiteParameters) -> ir.Value:
    """A call that does for one adapter what a call of `emit_open_sublayer` does for those of a bank.

    Args:
        model: gets the function, where it does not have it.
        emitter: its nodes are the new call.
        call: the call; what it reads besides the adapter's tensors the new one reads, too.
        site: the adapter.

    Returns:
        What stands for the call's output.
    """
    kind, dense = Kind(call.op_type.partition("_")[0]), Dense.of(site)
    signatures = [
        Signature(kind, site.non_linearity, True, True, emitter.dtype, weights=weights, has_b=True)
        for weights in Weights
    ]
    open_one = next(one for one in signatures if one.name == call.op_type)
    given = {name: value for name, value in zip(open_one.inputs, call.inputs, strict=True) if value is not None}
    given["down_weight"] = emitter.constant("down.weight", dense.Wd)
    given["down_bias"] = emitter.constant("down.bias", np.zeros(dense.Wd.shape[1]) if dense.bd is None else dense.bd)
    given["up_weight"] = emitter.constant("up.weight", dense.Wu)
    given["up_bias"] = emitter.constant("up.bias", np.zeros(dense.Wu.shape[1]) if dense.bu is None else dense.bu)
    signature, epsilon = replace(open_one, weights=Weights.DENSE), call.attributes.get("epsilon")
    inputs = [given[name] for name in signature.inputs]
    return _call_of(model, emitter, signature, inputs, {} if epsilon is None else {"epsilon": epsilon.as_float()})


def inline_calls(model: ir.Model) -> None:
    """Put the functions of adapters in the place of their calls, in all graphs of a model."""
    if any(domain == DOMAIN for domain, _, _ in model.functions):
        InlinePass(criteria=lambda function: function.domain == DOMAIN)(model)


def _take_place(
    emitter: Emitter, layer: Linear, around: Surroundings, last: ir.Value, *, read: ir.Value, call: ir.Value
) -> None:
    """Let whoever reads `last`, the end of a sublayer, read a call instead, and remove what that stands for."""
    uses = tuple(last.uses())
    emitter.graph.insert_before(around.add, emitter.nodes)
    redirect(emitter.graph, last, call, uses)
    read_shape_of(layer.output, read)
    drop_unused(last)


def _end_of(model: ir.Model, emitter: Emitter, around: Surroundings) -> tuple[Kind, ir.Value, Norm | None]:
    """How far a call goes, the value that it stands for, and the norm where that is in it."""
    norm = _callable(around.norm, emitter.dtype, model.opset_imports.get("", 1))
    return (Kind.RESIDUAL, around.sum, None) if norm is None else (Kind.NORM, norm.output, norm)


def _callable(norm: Norm | None, dtype: ir.DataType, opset: int) -> Norm | None:
    """The norm, if a call may compute it: a layer norm with vectors of the type, which alone reads the sum."""
    if norm is None or norm.bias is None or not norm.is_centred or opset < _NORMS_SINCE or not is_alone(norm):
        return None
    return norm if all(_is_vector(slot.value, dtype) for slot in (norm.gain, norm.bias)) else None


def _is_vector(value: ir.Value | None, dtype: ir.DataType) -> bool:
    """Whether a value is a constant vector of the type, or one of each row that a bank gives."""
    constant = constant_of(value)
    if constant is None:
        return value is not None and value.dtype == dtype
    return constant.dtype == dtype and constant.view.ndim == 1


def _epsilon(norm: Norm | None) -> dict[str, float]:
    return {} if norm is None else {"epsilon": norm.epsilon}


def _vectors_of(norm: Norm | None) -> dict[str, ir.Value]:
    """What a norm's call reads besides."""
    slots = {} if norm is None else {"gain": norm.gain, "shift": norm.bias}
    return {name: slot.value for name, slot in slots.items() if slot is not None and slot.value is not None}


def _call(
    model: ir.Model,
    emitter: Emitter,
    kind: Kind,
    read: Sequence[ir.Value],
    *,
    site: SiteParameters,
    dense: Dense,
    norm: Norm | None = None,
) -> ir.Value:
    """A call with a site's weights, or their factors where these are fewer products, and the biases of `dense`."""
    factors = Factors.of(site)
    weights = Weights.FACTORS if factors.are_fewer else Weights.DENSE
    signature = Signature(
        kind, site.non_linearity, dense.bd is not None, dense.bu is not None, emitter.dtype, weights=weights
    )
    tensors: dict[str, Array | None] = {
        "down_weight": dense.Wd,
        "down_left": factors.left,
        "down_mixing": factors.mix_down,
        "down_bias": dense.bd,
        "up_weight": dense.Wu,
        "up_mixing": factors.mix_up,
        "up_right": factors.right,
        "up_bias": dense.bu,
    }
    own = [(name, array) for name in signature.inputs if (array := tensors.get(name)) is not None]
    given = [emitter.constant(name.replace("_", "."), array) for name, array in own]
    return _call_of(model, emitter, signature, [*read, *given, *_vectors_of(norm).values()], _epsilon(norm))


def _call_of(
    model: ir.Model,
    emitter: Emitter,
    signature: Signature,
    inputs: Sequence[ir.Value],
    attributes: Mapping[str, int | float],
) -> ir.Value:
    """A call of a function, which the model has then."""
    function = signature.function(model.opset_imports.get("", 1))
    model.functions.setdefault(function.identifier(), function)
    model.opset_imports[DOMAIN] = _VERSION
    model.ir_version = max(model.ir_version, _FUNCTIONS_SINCE)
    name = signature.kind.lower()
    return emitter.op(signature.name, inputs, name, like=inputs[0], attributes=attributes, domain=DOMAIN)
