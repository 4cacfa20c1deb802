"""The functions of a model that compute an adapter, or with it the end of a sublayer (ONX-36, ONX-54).

With delta = act(x Wd + bd) Wu' + bu',

    function   delta = Delta_<name>(x, Wd, [bd,] Wu' [, bu'])
    sublayer   y = Residual_<name>(x, r, Wd, [bd,] Wu' [, bu']) = r + (x + delta), or
               y = Norm_<name>(x, r, Wd, [bd,] Wu' [, bu'], gain, shift) = N(r + (x + delta))

where <name> is <weights><activation>[_bd][_bu]_<type>. Open graphs add the bias b of the linear, too: behind bu' there
is a further input b then, `_bd_bu_b` in the name, and b + bu' in the place of bu'.

With the weights `factors_` two inputs stand in the place of each weight: left and mix_down in that of Wd, mix_up and
right in that of Wu' (`compacter_core.linkage.factors`). With `rows_` each row of the batch has weights, bd and bu' of
its own, those of S sites, [B, S, ...], and b, gain and shift of its own, [B, 1, d], or not. With `sites_` all but
x, r and b are those of S sites, [S, ...]. The attribute `site` says which site's a call takes: a run is handed a few
tensors instead of many, and need not take them apart.

Activations are spelt out in operators that every runtime has inside functions: Gelu is a function itself. A session
that knows an operator with a function's name and domain runs it in its place: `compacter_runtime.kernels` has operators
for all of them in float32, which take one pass over hidden states. A session without them multiplies constant factors
out once, when it is opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
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


class Weights(StrEnum):
    """How a function takes the weights of the projections."""

    DENSE = ""
    ROWS = "rows_"
    FACTORS = "factors_"
    FACTORS_OF_ROWS = "factors_rows_"
    FACTORS_OF_SITES = "factors_sites_"

    @property
    def are_factors(self) -> bool:
        """Whether each weight is two inputs."""
        return self not in (Weights.DENSE, Weights.ROWS)

    @property
    def are_by_row(self) -> bool:
        """Whether each row of the batch has its own."""
        return self in (Weights.ROWS, Weights.FACTORS_OF_ROWS)

    @property
    def are_by_site(self) -> bool:
        """Whether those of all sites are given together, one for all rows."""
        return self is Weights.FACTORS_OF_SITES

    @property
    def have_sites(self) -> bool:
        """Whether a call says which site's it takes."""
        return self.are_by_row or self.are_by_site


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
        down, up = ["down_weight"], ["up_weight"]
        if self.weights.are_factors:
            down, up = ["down_left", "down_mixing"], ["up_mixing", "up_right"]
        return (
            "x",
            *(["r"] if self.kind is not Kind.DELTA else []),
            *down,
            *(["down_bias"] if self.has_bd else []),
            *up,
            *(["up_bias"] if self.has_bu else []),
            *(["bias"] if self.has_b else []),
            *(["gain", "shift"] if self.kind is Kind.NORM else []),
        )

    def function(self, opset: int) -> ir.Function:
        """The function, in operators of an opset."""
        values = {name: ir.val(name, self.dtype) for name in self.inputs}
        body = ir.Graph(list(values.values()), [], nodes=[], opset_imports={"": opset})
        emitter = _Body(body, "delta", self.dtype, {})
        given = self._of_site(emitter, values) if self.weights.have_sites else values
        z = emitter.op("MatMul", [given["x"], self._down(emitter, given)], "down")
        if self.has_bd:
            z = emitter.op("Add", [z, given["down_bias"]], "down/bias")
        a = emit_activation(emitter, self.activation, z, _SPELT_OUT)
        y = emitter.op("MatMul", [a, self._up(emitter, given)], "up")
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

    def _of_site(self, emitter: "_Body", given: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        """The inputs, those of several sites as the call's site has them: [...], or of rows [B, 1, ...]."""
        site = emitter.op("Constant", [], "site")
        emitter.nodes[-1].attributes.add(ir.RefAttr("value_int", "site", ir.AttributeType.INT))
        shared, axis = ["x", "r", "bias"], 0
        if self.weights.are_by_row:
            one = emitter.constant("sites/shape", np.array([1]), ir.DataType.INT64)
            site, shared, axis = emitter.op("Reshape", [site, one], "sites"), [*shared, "gain", "shift"], 1
        for node in emitter.nodes:  # all are about the site so far
            node.outputs[0].type = ir.TensorType(ir.DataType.INT64)
        return {
            name: value
            if name in shared
            else emitter.op("Gather", [value, site], f"{name}/of_site", attributes={"axis": axis})
            for name, value in given.items()
        }

    def _down(self, emitter: "_Body", given: Mapping[str, ir.Value]) -> ir.Value:
        """Wd, [d, k] or [B, d, k]."""
        if not self.weights.are_factors:
            return self._of_rows(emitter, given["down_weight"])
        mixing = self._of_rows(emitter, given["down_mixing"])
        blocks = emitter.op("MatMul", [given["down_left"], mixing], "down/blocks")
        if not self.weights.are_by_row:
            return emitter.op("Flatten", [blocks], "down/weight", attributes={"axis": 2})  # k may be 0
        k_first = emitter.op("Transpose", [blocks], "down/turned", attributes={"perm": [0, 3, 1, 2]})
        W = _joined(emitter, k_first, "down/joined")
        return emitter.op("Transpose", [W], "down/weight", attributes={"perm": [0, 2, 1]})

    def _up(self, emitter: "_Body", given: Mapping[str, ir.Value]) -> ir.Value:
        """Wu', [k, d] or [B, k, d]."""
        if not self.weights.are_factors:
            return self._of_rows(emitter, given["up_weight"])
        mixing = self._of_rows(emitter, given["up_mixing"])
        blocks = emitter.op("MatMul", [mixing, given["up_right"]], "up/blocks")
        if not self.weights.are_by_row:
            return emitter.op("Flatten", [blocks], "up/weight", attributes={"axis": 1})
        return _joined(emitter, blocks, "up/weight")

    def _of_rows(self, emitter: "_Body", value: ir.Value) -> ir.Value:
        """A tensor of rows without the axis of size 1 behind them (Squeeze has changed between opsets)."""
        if not self.weights.are_by_row:
            return value
        first = emitter.constant(f"{value.name}/first", np.array(0), ir.DataType.INT64)
        return emitter.op("Gather", [value, first], f"{value.name}/row", attributes={"axis": 1})


def _joined(emitter: "_Body", blocks: ir.Value, name: str) -> ir.Value:
    """[B, k, n, m] as [B, k, d]."""
    shape = emitter.constant(f"{name}/shape", np.array([0, 0, -1]), ir.DataType.INT64)
    return emitter.op("Reshape", [blocks, shape], name)


class _Body(Emitter):
    """Collects the nodes of a function, where constants are nodes."""

    def constant(self, name: str, values: Array, dtype: ir.DataType | None = None) -> ir.Value:
        """A Constant node, of the function's type or another one."""
        dtype = dtype or self.dtype
        tensor = ir.Tensor(values.astype(dtype.numpy()), dtype, name=name)
        value = self.op("Constant", [], name, attributes={"value": tensor})
        value.type = ir.TensorType(dtype)
        return value
