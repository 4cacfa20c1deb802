"""Sum of two values, the operator without an optimiser: y = a + b, bit for bit what Add gives."""

from collections.abc import Sequence
from typing import Final

import onnx_ir as ir

from compacter_exporters.fused.parts import Origin, Parts, part, take_after
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
        take_after(last, origin)
        return write_as_sum(last)


def write_as_sum(add: ir.Node) -> ir.Node | None:
    """Write an Add as Sum: the same bits, and no session looks for it."""
    if not is_op(add, "Add"):
        return None
    add.op_type = "Sum"
    return add
