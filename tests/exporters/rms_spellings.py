"""The ways in which exporters write a root-mean-square norm."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from onnx import TensorProto

from compacter_core.adapter import Array


class RmsSpelling(StrEnum):
    """By what tells them apart."""

    OPERATOR = "operator"
    SIMPLIFIED = "simplified"
    RECIPROCAL = "reciprocal"
    ONE_OVER = "one_over"
    DIVIDED = "divided"
    SQUARED_BY_MUL = "squared_by_mul"
    CAST = "cast"
    SHIFTED = "shifted"


class Op(Protocol):
    """Adds a node and returns the name of its output."""

    def __call__(self, op_type: str, inputs: list[str], **attributes: Any) -> str: ...


def spell(op: Op, tensor: Callable[[str, Array], str], x: str, gain: str, *, how: RmsSpelling, opset: int) -> str:
    """The nodes of N(x), and the name of its value."""
    if how is RmsSpelling.OPERATOR:
        return op("RMSNormalization", [x, gain], axis=-1, epsilon=1e-5)
    if how is RmsSpelling.SIMPLIFIED:
        return op("SimplifiedLayerNormalization", [x, gain], axis=-1, epsilon=1e-5)
    if how is RmsSpelling.CAST:
        x = op("Cast", [x], to=TensorProto.FLOAT)
    if how is RmsSpelling.SQUARED_BY_MUL:
        square = op("Mul", [x, x])
    else:
        square = op("Pow", [x, tensor("two", np.array(2, np.float32))])
    if opset >= 18:
        mean = op("ReduceMean", [square, tensor("last", np.array([-1]))], keepdims=1)
    else:
        mean = op("ReduceMean", [square], axes=[-1], keepdims=1)
    root = op("Sqrt", [op("Add", [mean, tensor("epsilon", np.array(1e-5, np.float32))])])
    normed = _divided(op, tensor, x, root, how)
    if how is RmsSpelling.CAST:
        normed = op("Cast", [normed], to=TensorProto.FLOAT)
    if how is RmsSpelling.SHIFTED:
        # As Gemma: 1 + weight, which an exporter may leave to the graph.
        gain = op("Add", [gain, tensor("none", np.array(0, np.float32))])
    return op("Mul", [gain, normed] if how is RmsSpelling.CAST else [normed, gain])


def _divided(op: Op, tensor: Callable[[str, Array], str], x: str, root: str, how: RmsSpelling) -> str:
    if how is RmsSpelling.DIVIDED:
        return op("Div", [x, root])
    if how is RmsSpelling.ONE_OVER:
        return op("Mul", [x, op("Div", [tensor("one", np.array(1, np.float32)), root])])
    return op("Mul", [op("Reciprocal", [root]), x])
