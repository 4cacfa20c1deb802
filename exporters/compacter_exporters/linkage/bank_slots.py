"""Norms and biases of the backbone that differ from row to row, and those that cannot."""

from collections.abc import Mapping

import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.linkage.bank import BankLayout
from compacter_exporters.fused import embeddings
from compacter_exporters.fused.parts import is_contrib
from compacter_exporters.graph import Slot, depends_on_inputs
from compacter_exporters.linkage.bank_rows import Rows
from compacter_exporters.linkage.opened import Places
from compacter_exporters.rewire import replace_input


def open_slots(rows: Rows, places: Places, layout: BankLayout, neutral: Mapping[str, Array]) -> dict[ir.Value, int]:
    """Let each replaced tensor be the row's own: [B, 1, its size].

    Returns:
        The sizes of the rows' tensors.

    Raises:
        CompacterError: E605 for one that is the same for all rows by the graph's structure.
    """
    sizes: dict[ir.Value, int] = {}
    for tensor, names in layout.overrides.items():
        values = rows.split(rows.gather(tensor, neutral[tensor]), len(names), tensor)
        size: int = neutral[tensor].shape[-1]
        sizes |= dict.fromkeys(values, size)
        for name, value in zip(names, values, strict=True):
            for slot in places.slots[name]:
                _check_by_row(name, slot)
                replace_input(slot.node, slot.index, value)
    return sizes


def _check_by_row(name: str, slot: Slot) -> None:
    """Refuse a tensor that has no rows to differ by."""
    if slot.node.op_type == "Gemm":
        why = "the bias of a Gemm is the same for all rows"
    elif is_contrib(slot.node, embeddings.OPERATOR):
        why = f"the norm inside {embeddings.OPERATOR} is the same for all rows"
    elif not any(depends_on_inputs(value) for index, value in enumerate(slot.node.inputs) if index != slot.index):
        why = "it acts on a constant table, which has no rows of the batch"
    else:
        return
    raise CompacterError(
        ErrorCode.E605,
        f"a bank cannot have {name} of each adapter: {why}",
        value=slot.node.name,
        remedy="Use the linkage swappable, or a template that leaves this tensor to the backbone.",
    )
