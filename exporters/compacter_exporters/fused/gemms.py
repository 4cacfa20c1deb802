"""FusedGemm: a Gemm and the activation behind it."""

from collections.abc import Sequence
from typing import Final

import onnx_ir as ir

from compacter_exporters.fused.parts import Origin, Parts, is_contrib, join, part
from compacter_exporters.graph import is_op, producer_of

_ACTIVATIONS: Final = ("Relu", "Sigmoid", "Tanh")
"""Those without parameters."""

_GEMM: Final = ("alpha", "beta", "transA", "transB")


class ActivatedGemm:
    """y = act(alpha A B + beta C)."""

    def takes(self, node: ir.Node) -> bool:
        """A FusedGemm whose activation has no parameters."""
        return is_contrib(node, "FusedGemm") and _activation(node) in _ACTIVATIONS

    def parts(self, node: ir.Node, stem: str) -> Parts:
        """Gemm and activation."""
        y, (gemm,) = node.outputs[0], self.beside(node, stem)
        last = part(_activation(node), gemm.outputs, f"{stem}/activation", y)
        return Parts([gemm, last], {y: last.outputs[0]})

    def beside(self, node: ir.Node, stem: str) -> Sequence[ir.Node]:
        """Gemm."""
        y = node.outputs[0]
        attributes = {name: node.attributes[name].value for name in _GEMM if name in node.attributes}
        return [part("Gemm", [value for value in node.inputs if value is not None], f"{stem}/gemm", y, **attributes)]

    def together(self, last: ir.Node, origin: Origin) -> ir.Node | None:
        """As before, with the inputs that the Gemm has now."""
        gemm = producer_of(last.inputs[0])
        return join(gemm, last, origin, gemm.inputs) if gemm is not None and is_op(gemm, "Gemm") else None


def _activation(node: ir.Node) -> str:
    attribute = node.attributes.get("activation")
    return "" if attribute is None else attribute.as_string()
