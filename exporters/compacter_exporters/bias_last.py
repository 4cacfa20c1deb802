"""Recognising the form bias-last: behind the sum m + p of a site, the Add of a constant vector."""

import onnx_ir as ir

from compacter_exporters.graph import constant_of, is_op, other_input


def bias_added_last(total: ir.Node) -> ir.Node | None:
    """The Add of a constant vector that alone reads the result of the Add m + p; None where there is none."""
    value = total.outputs[0]
    readers = [reader for reader in value.consumers() if not is_op(reader, "Shape")]
    if len(readers) != 1 or not is_op(readers[0], "Add") or value.is_graph_output():
        return None
    constant = constant_of(other_input(readers[0], value))
    return readers[0] if constant is not None and constant.view.ndim == 1 else None
