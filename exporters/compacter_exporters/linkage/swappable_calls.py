"""Swappable sites as calls, which take the tensors of all sites together (LNK-22)."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.layout import Part
from compacter_core.linkage.description import Description
from compacter_core.linkage.swappable import ALL_SITES, PREFIX, site_input, site_norms
from compacter_exporters.calls import emit_open_sublayer
from compacter_exporters.emitter import Emitter
from compacter_exporters.graph import Slot, constant_of
from compacter_exporters.linkage.opened import Places
from compacter_exporters.linkage.values import integers_of, open_input, open_zeros, type_of
from compacter_exporters.norms import Norm
from compacter_exporters.rewire import replace_input
from compacter_exporters.weights import Weights

Vectors = Mapping[str, ir.Value]
"""Gains and biases of the norms behind all sites [S, d], by the part of a norm that they are; none if one lacks."""
_INPUTS: Final = {"weight": "gain", "bias": "shift"}
"""The inputs of calls for the parts of a norm."""


def call_sites(places: Places, description: Description) -> None:
    """Let calls stand at all sites of a model."""
    template = description.template
    tensors = _inputs(places.model.graph, description)
    norms = _open_norms(places.model.graph, description) or _constant_norms(places, description)
    given = tensors | {_INPUTS[part]: value for part, value in norms.items()}
    positions = {site.id: index for index, site in enumerate(template.sites)}
    for place in places.sites():
        emit_open_sublayer(
            places.model,
            places.emitter(place),
            place.layer,
            given,
            weights=Weights.FACTORS_OF_SITES,
            activation=template.non_linearity,
            around=place.around,
            site=positions[place.site.id],
        )
    _read_norms(places, description, norms)


def _inputs(graph: ir.Graph, description: Description) -> dict[str, ir.Value]:
    """New inputs of the graph for the factors and biases of all sites, by the inputs of calls."""
    S, d, dtype = len(description.template.sites), description.template.hidden_size, type_of(description)
    m, n, w, k, v = (f"{ALL_SITES}.{name}" for name in "mnwkv")
    shapes = {
        "down.left": (S, m, w),
        "down.mixing": (S, n, w, k),
        "down.bias": (S, k),
        "up.mixing": (S, k, n, v),
        "up.right": (S, v, m),
        "up.bias": (S, d),
    }
    return {
        name.replace(".", "_"): open_zeros(graph, site_input(ALL_SITES, name), dtype, shape, {m: d, n: 1})
        for name, shape in shapes.items()
    }


def _open_norms(graph: ir.Graph, description: Description) -> Vectors:
    """New inputs of the graph for the norms, where all are open."""
    values: dict[str, ir.Value] = {}
    for part, names in site_norms(description.template).items():
        default = np.stack([description.replaced(Part.OVERRIDE, name) for name in names])
        name = site_input(ALL_SITES, f"norm.{part}")
        values[part] = open_input(graph, name, default, type_of(description), [*default.shape])
    return values


def _constant_norms(places: Places, description: Description) -> Vectors:
    """The norms as the backbone has them, where all sites of the model have one with constant vectors behind them."""
    template, dtype = description.template, type_of(description)
    found = {place.site.id: _vectors(place.around.norm, dtype) for place in places.sites()}
    if not all(found.values()):
        return {}
    emitter = Emitter(places.model.graph, f"{PREFIX}/{ALL_SITES}/norm", dtype, {})
    elsewhere = dict.fromkeys(_INPUTS, np.zeros(template.hidden_size))
    rows = [found.get(site.id, elsewhere) for site in template.sites]
    return {part: emitter.constant(part, np.stack([row[part] for row in rows])) for part in _INPUTS}


def _vectors(norm: Norm | None, dtype: ir.DataType) -> dict[str, Array]:
    """The parts of a norm; none if one is missing, open, or no vector of the type."""
    if norm is None:
        return {}
    slots = dict(zip(_INPUTS, (norm.gain, norm.bias), strict=True))
    found = {part: array for part, slot in slots.items() if (array := _vector(slot, dtype)) is not None}
    return found if found.keys() == slots.keys() else {}


def _vector(slot: Slot | None, dtype: ir.DataType) -> Array | None:
    if slot is None or slot.value is None or slot.value.is_graph_input():
        return None
    constant = constant_of(slot.value)
    return constant.exact() if constant is not None and constant.dtype == dtype and constant.view.ndim == 1 else None


def _read_norms(places: Places, description: Description, norms: Vectors) -> None:
    """Let norms that are open and stand in no call read their rows."""
    for part, names in site_norms(description.template).items():
        for index, name in enumerate(names):
            for slot in places.slots.get(name, ()):
                if slot.node.graph is not None:
                    _read_row(places, slot, norms[part], index)


def _read_row(places: Places, slot: Slot, rows: ir.Value, index: int) -> None:
    graph = slot.node.graph
    if not isinstance(graph, ir.Graph):  # nodes of a model that is opened stand in graphs
        raise TypeError("the norm is in no graph")
    emitter = Emitter(graph, f"{rows.name}/{index}", rows.dtype or ir.DataType.FLOAT, {}, home=places.model.graph)
    row = integers_of(emitter).op("Constant", [], "row", attributes={"value": ir.Tensor(np.array(index))})
    value = emitter.op("Gather", [rows, row], "read", attributes={"axis": 0})
    graph.insert_before(slot.node, emitter.nodes)
    replace_input(slot.node, slot.index, value)
