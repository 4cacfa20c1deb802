"""The functions of a model that compute an adapter, or with it the end of a sublayer (ONX-36, ONX-54).

With delta = act(x Wd + bd) Wu' + bu',

    function   delta = Delta_<activation>[_bd][_bu]_<type>(x, Wd, [bd,] Wu' [, bu'])
    sublayer   y = Residual_<activation>[_bd][_bu]_<type>(x, r, Wd, [bd,] Wu' [, bu']) = r + (x + delta), or
               y = Norm_<activation>[_bd][_bu]_<type>(x, r, Wd, [bd,] Wu' [, bu'], gain, shift) = N(r + (x + delta))

Activations are spelt out in operators that every runtime has inside functions: Gelu is a function itself. A session
that knows an operator with a function's name and domain runs it in its place: `compacter_runtime.kernels` has operators
for all of them in float32, which take one pass over hidden states.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.vocabulary import Activation
from compacter_exporters.activations import emit_activation
from compacter_exporters.emitter import Emitter

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
    """

    kind: Kind
    activation: Activation
    has_bd: bool
    has_bu: bool
    dtype: ir.DataType

    @property
    def name(self) -> str:
        """What it is called."""
        biases = f"{'_bd' if self.has_bd else ''}{'_bu' if self.has_bu else ''}"
        return f"{self.kind.value}_{self.activation.value}{biases}_{self.dtype.name}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Its inputs in their order."""
        there = {
            "x": True,
            "r": self.kind is not Kind.DELTA,
            "down_weight": True,
            "down_bias": self.has_bd,
            "up_weight": True,
            "up_bias": self.has_bu,
            "gain": self.kind is Kind.NORM,
            "shift": self.kind is Kind.NORM,
        }
        return tuple(name for name, is_there in there.items() if is_there)

    def function(self, opset: int) -> ir.Function:
        """The function, in operators of an opset."""
        given = {name: ir.val(name, self.dtype) for name in self.inputs}
        body = ir.Graph(list(given.values()), [], nodes=[], opset_imports={"": opset})
        emitter = _Body(body, "delta", self.dtype, {})
        z = emitter.op("MatMul", [given["x"], given["down_weight"]], "down")
        if self.has_bd:
            z = emitter.op("Add", [z, given["down_bias"]], "down/bias")
        a = emit_activation(emitter, self.activation, z, _SPELT_OUT)
        y = emitter.op("MatMul", [a, given["up_weight"]], "up")
        if self.has_bu:
            y = emitter.op("Add", [y, given["up_bias"]], "up/bias")
        if self.kind is not Kind.DELTA:
            y = emitter.op("Add", [given["x"], y], "output")
            y = emitter.op("Add", [given["r"], y], "sum")
        attributes = []
        if self.kind is Kind.NORM:
            y = emitter.op("LayerNormalization", [y, given["gain"], given["shift"]], "norm")
            emitter.nodes[-1].attributes.add(ir.RefAttr("epsilon", "epsilon", ir.AttributeType.FLOAT))
            attributes.append(ir.Attr("epsilon", ir.AttributeType.FLOAT, None))
        body.extend(emitter.nodes)
        body.outputs.append(y)
        return ir.Function(DOMAIN, self.name, graph=body, attributes=attributes)


class _Body(Emitter):
    """Collects the nodes of a function, where constants are nodes."""

    def constant(self, name: str, values: Array) -> ir.Value:
        """A Constant node."""
        tensor = ir.Tensor(values.astype(self.dtype.numpy()), self.dtype, name=name)
        return self.op("Constant", [], name, attributes={"value": tensor})
