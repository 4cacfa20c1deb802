"""Norms of a constant table, which no input of the model reaches (ONX-43).

DeBERTa normalises its table of relative positions before the first layer. Where that norm stands in a graph says
nothing: it depends on no other node. An optimiser may also compute it, and the projections of the table behind it, and
write constants in their place; nothing in the graph then tells gain, bias or the table that they came from.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from compacter_core.adapter import Adapter
from compacter_core.config import Backbone
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.graph import depends_on_inputs
from compacter_exporters.norms import Norm

_OF_TABLE: Final = {"deberta-v2": "encoder.LayerNorm"}
"""Model type to the norm's name in `backbone.norms`."""


def in_place(norms: Sequence[Norm], adapter: Adapter) -> tuple[list[Norm], Adapter]:
    """The norms of a graph in the order of `backbone.norms`, and the adapter as it is for that graph.

    Args:
        norms: those that the backbone's description counts, in the graph's order.
        adapter: the adapter.

    Returns:
        The norm of the table at its own position; where an optimiser computed it, the others, and the adapter
        without a norm of that name.

    Raises:
        CompacterError: E604 if the adapter replaces the norm that an optimiser computed.
    """
    backbone = adapter.config.backbone
    name = None if backbone is None else _OF_TABLE.get(backbone.model_type)
    if backbone is None or name not in backbone.norms:
        return list(norms), adapter
    of_table = [norm for norm in norms if not depends_on_inputs(norm.input)]
    others = [norm for norm in norms if depends_on_inputs(norm.input)]
    if not of_table and len(others) == len(backbone.norms) - 1:
        return others, _without(adapter, backbone, name)
    position = backbone.norms.index(name)
    return [*others[:position], *of_table, *others[position:]], adapter


def _without(adapter: Adapter, backbone: Backbone, name: str) -> Adapter:
    replaced = [one.name for one in adapter.config.overrides if one.name.rpartition(".")[0] == name]
    if replaced:
        raise CompacterError(
            ErrorCode.E604,
            "an optimiser has computed the norm of a constant table, and the adapter replaces that norm",
            value=", ".join(replaced),
            expected=f"the norm {name} in the graph, or an adapter that leaves it to the backbone",
            remedy="Graft before optimising; constants do not tell what table they came from.",
        )
    norms = tuple(other for other in backbone.norms if other != name)
    return replace(adapter, config=replace(adapter.config, backbone=replace(backbone, norms=norms)))
