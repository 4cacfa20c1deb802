"""Operators that add a bias before or behind what they do otherwise.

DynamicQuantizeMatMul, MatMulIntegerToFloat, MatMulNBits    y = x W + b, W quantised
BiasGelu                                                    y = gelu(x + b)
"""

from collections.abc import Sequence
from typing import Final

import onnx_ir as ir

from compacter_exporters.fused.parts import Origin, Parts, fused_again, is_contrib, join, part
from compacter_exporters.graph import constant_of, is_op, producer_of
from compacter_exporters.operators import CONTRIB

_BIAS: Final = {"DynamicQuantizeMatMul": 4, "MatMulIntegerToFloat": 6, "MatMulNBits": 5}
"""Its position among the inputs."""


class BiasedProduct:
    """y = x W + b: the operator without its bias, and an Add."""

    def takes(self, node: ir.Node) -> bool:
        """A product with a bias."""
        position = _BIAS.get(node.op_type, 0)
        return is_contrib(node, *_BIAS) and len(node.inputs) > position and node.inputs[position] is not None

    def parts(self, node: ir.Node, stem: str) -> Parts:
        """Product and Add."""
        y, position = node.outputs[0], _BIAS[node.op_type]
        bias = node.inputs[position]
        if bias is None:  # `takes` says so
            raise TypeError("no bias")
        bare = fused_again(Origin(self, node, ()), node.inputs[:position], 1)
        bare.name = f"{stem}/product"
        m = bare.outputs[0]
        m.name, m.type, m.shape = f"{stem}/product", y.type, y.shape
        add = part("Add", [m, bias], f"{stem}/biased", y)
        return Parts([bare, add], {y: add.outputs[0]})

    def beside(self, _node: ir.Node, _stem: str) -> Sequence[ir.Node]:
        """Nothing: an adapter that reads the product has its own Add behind it."""
        return ()

    def together(self, last: ir.Node, origin: Origin) -> ir.Node | None:
        """As before, unless something else than a constant is added now, or the product is read elsewhere."""
        position = _BIAS[origin.node.op_type]
        for m, bias in (tuple(last.inputs), tuple(reversed(last.inputs))):
            bare, constant = producer_of(m), constant_of(bias)
            if bare is not None and is_contrib(bare, *_BIAS) and constant is not None and constant.view.ndim == 1:
                inputs = [*bare.inputs, *[None] * (position - len(bare.inputs)), bias]
                return join(bare, last, origin, inputs)
        return None


class BiasGelu:
    """y = gelu(x + b): an Add, and ONNX Runtime's Gelu."""

    def takes(self, node: ir.Node) -> bool:
        """Any."""
        return is_contrib(node, "BiasGelu")

    def parts(self, node: ir.Node, stem: str) -> Parts:
        """Add and Gelu."""
        y, (add,) = node.outputs[0], self.beside(node, stem)
        last = ir.node("Gelu", add.outputs, domain=CONTRIB, name=f"{stem}/activation")
        output = last.outputs[0]
        output.name, output.type, output.shape = f"{stem}/activation", y.type, y.shape
        return Parts([add, last], {y: output})

    def beside(self, node: ir.Node, stem: str) -> Sequence[ir.Node]:
        """Add."""
        return [part("Add", [value for value in node.inputs if value is not None], f"{stem}/biased", node.outputs[0])]

    def together(self, last: ir.Node, origin: Origin) -> ir.Node | None:
        """As before, with what the Add reads now."""
        add = producer_of(last.inputs[0])
        return join(add, last, origin, add.inputs) if add is not None and is_op(add, "Add") else None
