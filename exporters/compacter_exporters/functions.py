"""The functions of a model that compute an adapter, or with it the end of a sublayer (ONX-36, ONX-54).

With delta = act(x Wd + bd) Wu' + bu',

    function   delta = Delta_<name>(x, Wd, [bd,] Wu' [, bu'])
    sublayer   y = Residual_<name>(x, r, Wd, [bd,] Wu' [, bu']) = r + (x + delta), or
               y = Norm_<name>(x, r, Wd, [bd,] Wu' [, bu'], gain, shift) = N(r + (x + delta))

where <name> is <weights><activation>[_bd][_bu]_<type>. Open graphs add the bias b of the linear, too: behind bu' there
is a further input b then, `_bd_bu_b` in the name, and b + bu' in the place of bu'.

How weights are given, `weights` says. Those of banks come with the rows' entries, `entry` [B], behind r; bd and bu' are
[E, S, 1, k] and [E, S, 1, d] with them, and b, gain and shift may be of the rows, [B, 1, d]. With `factors_sites_` all
but x, r and b are those of S sites, [S, ...]. The attribute `site` says which site's a call takes: a run is handed a
few tensors instead of many, and need not take them apart.

Activations are spelt out in operators that every runtime has inside functions: Gelu is a function itself. A session
that knows an operator with a function's name and domain runs it in its place: `compacter_runtime.kernels` has operators
for all of them in float32, which take one pass over hidden states. A session without them multiplies constant factors
out once, when it is opened.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import onnx_ir as ir

from compacter_core.layout import Side
from compacter_core.vocabulary import Activation
from compacter_exporters.activations import emit_activation
from compacter_exporters.weights import Body, Weights, multiplied_out, of_site

DOMAIN: Final = "ai.compacter"
_SPELT_OUT: Final = 0
"""An opset without the Gelu operator."""


class Kind(StrEnum):
    """What a function's name begins with."""

    DELTA = "Delta"
    RESIDUAL = "Residual"
    NORM = "Norm"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function is called and computes.

    Args:
        kind: how far it goes.
        activation: act.
        has_bd: whether there is a bias of the down-projection.
        has_bu: whether there is one of the up-projection.
        dtype: of all its tensors.
        weights: how it takes the projections.
        has_b: whether a bias of the linear is added to that of the up-projection.
    """

    kind: Kind
    activation: Activation
    has_bd: bool
    has_bu: bool
    dtype: ir.DataType
    weights: Weights = Weights.DENSE
    has_b: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        biases = f"{'_bd' if self.has_bd else ''}{'_bu' if self.has_bu else ''}{'_b' if self.has_b else ''}"
        return f"{self.kind.value}_{self.weights.value}{self.activation.value}{biases}_{self.dtype.name}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Its inputs in their order."""
        return (
            "x",
            *(["r"] if self.kind is not Kind.DELTA else []),
            *(["entry"] if self.weights.are_of_bank else []),
            *self.weights.inputs(Side.DOWN),
            *(["down_bias"] if self.has_bd else []),
            *self.weights.inputs(Side.UP),
            *(["up_bias"] if self.has_bu else []),
            *(["bias"] if self.has_b else []),
            *(["gain", "shift"] if self.kind is Kind.NORM else []),
        )

    def function(self, opset: int) -> ir.Function:
        """The function, in operators of an opset."""
        types = {"entry": ir.DataType.INT64}
        values = {name: ir.val(name, types.get(name, self.dtype)) for name in self.inputs}
        body = ir.Graph(list(values.values()), [], nodes=[], opset_imports={"": opset})
        emitter = Body(body, "delta", self.dtype, {})
        given = of_site(emitter, self.weights, values) if self.weights.have_sites else values
        z = emitter.op("MatMul", [given["x"], multiplied_out(emitter, self.weights, Side.DOWN, given)], "down")
        if self.has_bd:
            z = emitter.op("Add", [z, given["down_bias"]], "down/bias")
        a = emit_activation(emitter, self.activation, z, _SPELT_OUT)
        y = emitter.op("MatMul", [a, multiplied_out(emitter, self.weights, Side.UP, given)], "up")
        if self.has_bu:
            bias = given["up_bias"]
            bias = emitter.op("Add", [given["bias"], bias], "bias") if self.has_b else bias
            y = emitter.op("Add", [y, bias], "up/bias")
        if self.kind is not Kind.DELTA:
            y = emitter.op("Add", [given["x"], y], "output")
            y = emitter.op("Add", [given["r"], y], "sum")
        if self.kind is Kind.NORM:
            y = emitter.op("LayerNormalization", [y, given["gain"], given["shift"]], "norm")
            emitter.nodes[-1].attributes.add(ir.RefAttr("epsilon", "epsilon", ir.AttributeType.FLOAT))
        body.extend(emitter.nodes)
        body.outputs.append(y)
        return ir.Function(DOMAIN, self.name, graph=body, attributes=self._attributes())

    def _attributes(self) -> list[ir.Attr]:
        """The attributes that calls have to have."""
        types = {"epsilon": ir.AttributeType.FLOAT} if self.kind is Kind.NORM else {}
        types |= {"site": ir.AttributeType.INT} if self.weights.have_sites else {}
        return [ir.Attr(name, type_, None) for name, type_ in types.items()]
