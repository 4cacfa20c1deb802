"""The form of an adapter as a call of a function of the model (ONX-36).

    delta = Delta_<activation>[_bd][_bu]_<type>(x, Wd, [bd,] Wu' [, bu']) = act(x Wd + bd) Wu' + bu'

Sites whose adapters differ in their tensors alone call one function. What stands around delta is that of the plain
form. Activations are spelt out in operators that every runtime has inside functions: Gelu is a function itself.
"""

from collections.abc import Callable
from typing import Final

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from compacter_core.adapter import Array, SiteParameters
from compacter_core.linkage.dense import Dense
from compacter_core.vocabulary import Activation
from compacter_exporters.activations import emit_activation
from compacter_exporters.emitter import Emitter

DOMAIN: Final = "ai.compacter"
_VERSION: Final = 1
_FUNCTIONS_SINCE: Final = 8
"""The version of ONNX's representation from which on models have functions."""

_SPELT_OUT: Final = 0
"""An opset without the Gelu operator."""


class _Body(Emitter):
    """Collects the nodes of a function, where constants are nodes."""

    def constant(self, name: str, values: Array) -> ir.Value:
        """A Constant node."""
        tensor = ir.Tensor(values.astype(self.dtype.numpy()), self.dtype, name=name)
        return self.op("Constant", [], name, attributes={"value": tensor})


def calls_of(model: ir.Model, emitter: Emitter, site: SiteParameters) -> Callable[[ir.Value], ir.Value]:
    """What emits a site's delta(x) as a call; the model has the function then.

    Args:
        model: gets the function, where it does not have it.
        emitter: of the site.
        site: its adapter.
    """
    dense = Dense.of(site)
    tensors = {"down.weight": dense.Wd, "down.bias": dense.bd, "up.weight": dense.Wu, "up.bias": dense.bu}
    given = {name: array for name, array in tensors.items() if array is not None}
    function = _function(site.non_linearity, tuple(given), emitter.dtype, model.opset_imports.get("", 1))
    model.functions.setdefault(function.identifier(), function)
    model.opset_imports[DOMAIN] = _VERSION
    model.ir_version = max(model.ir_version, _FUNCTIONS_SINCE)

    def delta(x: ir.Value) -> ir.Value:
        constants = [emitter.constant(name, array) for name, array in given.items()]
        return emitter.op(function.name, [x, *constants], "delta", like=x, domain=DOMAIN)

    return delta


def inline_calls(model: ir.Model) -> None:
    """Put the functions of adapters in the place of their calls, in all graphs of a model."""
    if any(domain == DOMAIN for domain, _, _ in model.functions):
        InlinePass(criteria=lambda function: function.domain == DOMAIN)(model)


def _function(activation: Activation, given: tuple[str, ...], dtype: ir.DataType, opset: int) -> ir.Function:
    inputs = {name: ir.val(name.replace(".", "_"), dtype) for name in ("x", *given)}
    body = ir.Graph(list(inputs.values()), [], nodes=[], opset_imports={"": opset})
    emitter = _Body(body, "delta", dtype, {})
    z = emitter.op("MatMul", [inputs["x"], inputs["down.weight"]], "down")
    if "down.bias" in given:
        z = emitter.op("Add", [z, inputs["down.bias"]], "down/bias")
    a = emit_activation(emitter, activation, z, _SPELT_OUT)
    v = emitter.op("MatMul", [a, inputs["up.weight"]], "up")
    if "up.bias" in given:
        v = emitter.op("Add", [v, inputs["up.bias"]], "up/bias")
    body.extend(emitter.nodes)
    body.outputs.append(v)
    biases = "".join(f"_{short}" for name, short in (("down.bias", "bd"), ("up.bias", "bu")) if name in given)
    return ir.Function(DOMAIN, f"Delta_{activation.value}{biases}_{dtype.name}", graph=body, attributes=[])
