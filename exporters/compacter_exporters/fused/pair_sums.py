"""Sum of two values, the operator without an optimiser: y = a + b, bit for bit what Add gives."""

from collections.abc import Sequence
from typing import Final

import onnx_ir as ir

from compacter_exporters.fused.parts import Origin, Parts, fused_again, part, replace_uses
from compacter_exporters.graph import is_op

_PAIR: Final = 2


class PairSum:
    """y = a + b: an Add."""

    def takes(self, node: ir.Node) -> bool:
        """A Sum of two."""
        return is_op(node, "Sum") and len(node.inputs) == _PAIR

    def parts(self, node: ir.Node, stem: str) -> Parts:
        """Add."""
        y = node.outputs[0]
        add = part("Add", [value for value in node.inputs if value is not None], f"{stem}/sum", y)
        return Parts([add], {y: add.outputs[0]})

    def beside(self, _node: ir.Node, _stem: str) -> Sequence[ir.Node]:
        """Nothing: the sum is there."""
        return ()

    def together(self, last: ir.Node, origin: Origin) -> ir.Node | None:
        """As before, with what the Add reads now."""
        graph = last.graph
        if not isinstance(graph, ir.Graph) or not is_op(last, "Add"):
            return None
        node = fused_again(origin, last.inputs, 1)
        graph.insert_before(last, node)
        replace_uses(graph, last.outputs[0], node.outputs[0])
        graph.remove(last, safe=True)
        return node
