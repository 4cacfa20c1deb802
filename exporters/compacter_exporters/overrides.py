"""Backbone tensors that the adapter replaces whole: gains and biases of norms, biases of the sites' linear layers.

A tensor is never overwritten by name. Exporters merge equal initialisers, so that one tensor may serve many modules: a
new initialiser is added instead, and only the one node of that module reads it.
"""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from compacter_core.adapter import Adapter, Array
from compacter_core.config import Backbone, Override
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.gains import consumed_overrides
from compacter_core.vocabulary import OverrideKind
from compacter_exporters.emitter import Emitter
from compacter_exporters.graph import Slot
from compacter_exporters.linears import Linear
from compacter_exporters.norms import Norm
from compacter_exporters.rewire import replace_input


def override_slots(
    adapter: Adapter, norms: Sequence[Norm], layers: Mapping[str, Linear]
) -> dict[str, tuple[Slot, Array]]:
    """Where each override goes in the graph, with its values.

    Args:
        adapter: the adapter.
        norms: all norms of the backbone in the graph, in order.
        layers: the sites' linear layers.

    Raises:
        CompacterError: E604 if the graph's norms are not those of the configuration; E404 for an override that fits no
            tensor; E405 for one of a kind that cannot be located in a graph.
    """
    config = adapter.config
    values = consumed_overrides(adapter)
    slots: dict[str, tuple[Slot, Array]] = {}
    for override in config.overrides:
        if override.kind is OverrideKind.NORM:
            slot = _norm_slot(override, norms, config.backbone)
        elif override.kind is OverrideKind.BIAS:
            slot = _bias_slot(override, layers, config.backbone)
        else:
            raise CompacterError(
                ErrorCode.E405,
                "a graft replaces norms and biases by overrides, and a head by the head's own tensors",
                value=f"{override.name} ({override.kind.value})",
                expected="norm or bias",
            )
        array = values[override.name]
        if slot.array().size != array.size:
            raise CompacterError(
                ErrorCode.E404,
                f"override {override.name} has another size than the tensor in the graph",
                value=array.shape,
                expected=str(slot.array().shape),
            )
        slots[override.name] = (slot, array)
    return slots


def apply_overrides(graph: ir.Graph, prefix: str, slots: Mapping[str, tuple[Slot, Array]]) -> dict[str, str]:
    """Rewire every slot to a new initialiser; returns the SHA-256 of each by its name."""
    digests: dict[str, str] = {}
    for name, (slot, array) in slots.items():
        emitter = Emitter(graph, prefix, slot.constant.dtype, {})
        replace_input(slot.node, slot.index, emitter.constant(name, array))
        digests |= emitter.initialisers
    return digests


def _norm_slot(override: Override, norms: Sequence[Norm], backbone: Backbone | None) -> Slot:
    names = () if backbone is None else backbone.norms
    module, _, part = override.name.rpartition(".")
    if module not in names or part not in ("weight", "bias"):
        raise CompacterError(
            ErrorCode.E404,
            "an override names no norm of the backbone",
            value=override.name,
            expected="<norm>.weight or <norm>.bias, with a norm listed in backbone.norms",
        )
    if len(norms) != len(names):
        raise CompacterError(
            ErrorCode.E604,
            "the graph has another number of layer norms than the backbone of the adapter",
            value=len(norms),
            expected=str(len(names)),
            remedy="Graft into the export as the exporter wrote it: an optimiser hides a norm in something unknown.",
        )
    norm = norms[names.index(module)]
    slot = norm.gain if part == "weight" else norm.bias
    if slot is None:
        raise CompacterError(
            ErrorCode.E404, "an override is for a bias that the norm in the graph does not have", value=override.name
        )
    return slot


def _bias_slot(override: Override, layers: Mapping[str, Linear], backbone: Backbone | None) -> Slot:
    modules = {} if backbone is None else backbone.modules
    for site_id, layer in layers.items():
        if site_id in modules and f"{modules[site_id].linear}.bias" == override.name:
            slot = layer.bias_slot
            if slot is not None and slot.value is not None:
                return slot
    raise CompacterError(
        ErrorCode.E404,
        "an override names no bias of a site's linear layer that the graph has",
        value=override.name,
        expected="<linear of a site>.bias",
        remedy="Only biases of adapted layers can be located in a graph; train the adapter without the others.",
    )
