"""The six activations as ONNX nodes.

From opset 20 on, both GELUs are the Gelu operator, except in F64: the standard defines it as a function whose constants
are F32, so that an F64 Gelu would be off by 1e-8. Before it, and there, they are spelt as PyTorch's exporters spell
them, because optimisers recognise that spelling:

    gelu(z)     = z (1 + erf(z / sqrt 2)) / 2
    gelu_new(z) = z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))
"""

import math
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.vocabulary import Activation
from compacter_exporters.emitter import Emitter

GELU_OPSET: Final = 20

_GELU_ATTRIBUTE: Final = {Activation.GELU: "none", Activation.GELU_NEW: "tanh"}
_OPERATOR: Final = {Activation.RELU: "Relu", Activation.TANH: "Tanh"}


def emit_activation(emitter: Emitter, kind: Activation, z: ir.Value, opset: int) -> ir.Value:
    """Nodes for act(z).

    Args:
        emitter: takes the nodes.
        kind: the activation.
        z: its argument.
        opset: version of the standard operators the model declares.
    """
    if kind in _GELU_ATTRIBUTE and opset >= GELU_OPSET and emitter.dtype is not ir.DataType.DOUBLE:
        return emitter.op("Gelu", [z], kind.value, like=z, attributes={"approximate": _GELU_ATTRIBUTE[kind]})
    match kind:
        case Activation.IDENTITY:
            a = z
        case Activation.RELU | Activation.TANH:
            a = emitter.op(_OPERATOR[kind], [z], kind.value, like=z)
        case Activation.SILU:
            a = emitter.op("Mul", [z, emitter.op("Sigmoid", [z], "silu/sigmoid", like=z)], "silu", like=z)
        case Activation.GELU:
            a = _gelu(emitter, z)
        case Activation.GELU_NEW:
            a = _gelu_new(emitter, z)
    return a


def _gelu(emitter: Emitter, z: ir.Value) -> ir.Value:
    scaled = emitter.op("Div", [z, _scalar(emitter, "sqrt_two", math.sqrt(2.0))], "gelu/scaled", like=z)
    erf = emitter.op("Erf", [scaled], "gelu/erf", like=z)
    plus = emitter.op("Add", [erf, _scalar(emitter, "one", 1.0)], "gelu/plus", like=z)
    product = emitter.op("Mul", [z, plus], "gelu/product", like=z)
    return emitter.op("Mul", [product, _scalar(emitter, "half", 0.5)], "gelu", like=z)


def _gelu_new(emitter: Emitter, z: ir.Value) -> ir.Value:
    cube = emitter.op("Pow", [z, _scalar(emitter, "three", 3.0)], "gelu_new/cube", like=z)
    cubic = emitter.op("Mul", [cube, _scalar(emitter, "cubic", 0.044715)], "gelu_new/cubic", like=z)
    total = emitter.op("Add", [z, cubic], "gelu_new/sum", like=z)
    scale = _scalar(emitter, "scale", math.sqrt(2.0 / math.pi))
    tanh = emitter.op("Tanh", [emitter.op("Mul", [total, scale], "gelu_new/scaled", like=z)], "gelu_new/tanh", like=z)
    plus = emitter.op("Add", [tanh, _scalar(emitter, "one", 1.0)], "gelu_new/plus", like=z)
    half = emitter.op("Mul", [z, _scalar(emitter, "half", 0.5)], "gelu_new/half", like=z)
    return emitter.op("Mul", [half, plus], "gelu_new", like=z)


def _scalar(emitter: Emitter, name: str, value: float) -> ir.Value:
    return emitter.constant(f"constant/{name}", np.array(value))
