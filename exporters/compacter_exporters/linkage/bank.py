"""Open a backbone for many adapters at once: each row of a batch names its own.

The adapters' tensors are a few inputs of the graph, stacked over adapters and sites (`compacter_core.linkage.bank`), so
that a bank grows without another graph. `adapter_id` [B] picks an entry for each row; -1 is the backbone. Nodes pick
the rows' entries, and make of them what sites multiply with, once a run; calls (LNK-23) are given tensors as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter, Array
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.layout import Part, Side
from compacter_core.linkage.bank import OVERRIDES, BankLayout, takes_bias
from compacter_core.linkage.description import Description
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.activations import emit_activation
from compacter_exporters.calls import emit_open_sublayer
from compacter_exporters.emitter import Emitter
from compacter_exporters.forms import Form
from compacter_exporters.heads import HeadLayer
from compacter_exporters.linkage.bank_norms import scale_behind_norms
from compacter_exporters.linkage.bank_projections import Stack, prepare, project
from compacter_exporters.linkage.bank_rows import ROWS, Rows, batch_of, is_by_row
from compacter_exporters.linkage.bank_slots import open_slots
from compacter_exporters.linkage.insertion import BIAS, insert
from compacter_exporters.linkage.opened import Place, Places
from compacter_exporters.linkage.opening import Opener, OpenReport, open_file
from compacter_exporters.linkage.values import integers_of, type_of
from compacter_exporters.rewire import redirect
from compacter_exporters.weights import Weights

LABELS = "labels"
_MATRIX = 2
_UP_BIAS = "up.bias"


def graft_bank(
    backbone: Path, template: Path | Adapter, output: Path, *, sums_apart: bool = False, form: Form = Form.AUTO
) -> OpenReport:
    """Write `output`: the backbone, with the places of the template open for an adapter in each row.

    Args:
        backbone: an exported ONNX model.
        template: an adapter, its file or directory; it decides the projections' kind and sizes, sites, placement,
            activation, replaced norms and head. It is not put in; add it like any other.
        output: the .onnx file to write.
        sums_apart: whether residual sums are kept from being fused with norms (`optimise.sums`).
        form: auto, or sublayer for calls of a function, for which there are kernels.

    Raises:
        CompacterError: as `graft`, E605 for placements, norms, biases and heads that cannot be opened, and E001 for
            another form.
    """
    return open_file(backbone, template, output, BANK, sums_apart=sums_apart, form=form)


def _can_call(places: Places) -> bool:
    """Whether every site has a bias that the adapter is added before and the rows' biases are added to (LNK-23)."""
    batch = batch_of(places.model.graph)
    by_row = all(is_by_row(place, batch) and place.reads_product for place in places.sites())
    return by_row and takes_bias(places.template.config)


def _open_models(models: Sequence[Places], description: Description) -> None:
    for places in models:
        _open_model(places, BankLayout(replace(description, stacks=places.stacks)))


BANK: Final = Opener(Linkage.BANK, _open_models, _can_call)
"""How the linkage opens models."""


def _open_model(places: Places, layout: BankLayout) -> None:
    neutral = layout.entry(None)
    graph = places.model.graph
    rows = Rows.of(graph, type_of(layout.description))
    sites = [name for name in neutral if not name.startswith((OVERRIDES, "head."))]
    tensors = {name: Stack(rows.open(name, neutral[name]), neutral[name].shape[0]) for name in sites}
    replaced = open_slots(rows, places, layout, neutral)
    for layer in places.head:
        _open_layer(rows, places, layer, neutral)
    (_call_sites if layout.description.has_calls else _open_sites)(rows, places, layout, tensors)
    scale_behind_norms(rows, places.model, replaced)
    # What the rows picked comes first, so that branches see it too.
    graph.insert_before(graph[0], rows.emitter.nodes)


def _open_sites(rows: Rows, places: Places, layout: BankLayout, tensors: Mapping[str, Stack]) -> None:
    """Let the nodes of an adapter stand at all sites."""
    of_site = _taken_apart(rows, layout, _picked(rows, places, layout, tensors))
    for place in places.sites():
        _open_site(rows, places, layout, place, of_site[place.site.id])


def _picked(rows: Rows, places: Places, layout: BankLayout, tensors: Mapping[str, Stack]) -> dict[str, Stack]:
    """What the sites read, [B, S, ...]; `BIAS` [B, S, d] for `up.bias` where it is added to the linear's."""
    stacks = {name: Stack(rows.pick(name, one.value), one.count) for name, one in tensors.items()}
    if takes_bias(layout.config) and all(rows.are_in(place) for place in places.sites()):
        bias, axis = stacks.pop(_UP_BIAS), rows.integers(f"{BIAS}/axis", [2])
        stacks[BIAS] = Stack(rows.emitter.op("Squeeze", [bias.value, axis], BIAS), bias.count)
    return prepare(rows, layout, stacks)


def _taken_apart(rows: Rows, layout: BankLayout, stacks: Mapping[str, Stack]) -> dict[str, dict[str, ir.Value]]:
    """The tensors of each site, [B, 1, ...]."""
    parts = {name: rows.split(one.value, one.count, name) for name, one in stacks.items()}
    return {
        site.id: {name: values[index if len(values) > 1 else 0] for name, values in parts.items()}
        for index, site in enumerate(layout.config.sites)
    }


def _open_site(rows: Rows, places: Places, layout: BankLayout, place: Place, tensors: dict[str, ir.Value]) -> None:
    config, labels = layout.config, {"compacter.site": place.site.id}
    emitter = Emitter(place.graph, f"compacter/bank/{place.name}", rows.dtype, labels, home=rows.graph)
    opset = places.model.graph.opset_imports.get("", 1)
    d, is_known = config.hidden_size, rows.are_in(place)

    def delta(x: ir.Value) -> ir.Value:
        by_row = x if is_known else emitter.op("Reshape", [x, rows.shape_of_any(d)], ROWS)
        z = project(rows, emitter, layout, Side.DOWN, tensors=tensors, x=by_row)
        z = emitter.op("Add", [z, tensors["down.bias"]], "down/biased")
        a = emit_activation(emitter, config.non_linearity, z, opset)
        v = project(rows, emitter, layout, Side.UP, tensors=tensors, x=a)
        if _UP_BIAS in tensors or "scaling" in tensors:
            v = emitter.op("Reshape", [v, rows.shape(1, -1, d)], "up/joined")
        if _UP_BIAS in tensors:
            v = emitter.op("Add", [v, tensors[_UP_BIAS]], "up/biased")
        if "scaling" in tensors:
            v = emitter.op("Mul", [v, tensors["scaling"]], "scaled")
        shape = rows.shape(-1, d) if is_known else integers_of(emitter).op("Shape", [x], "shape")
        return emitter.op("Reshape", [v, shape], "delta", like=x)

    insert(emitter, place, delta, bias=tensors.get(BIAS))


def _call_sites(rows: Rows, places: Places, layout: BankLayout, tensors: Mapping[str, Stack]) -> None:
    """Let calls stand at all sites, which are given the bank's tensors as they are (ONX-55), and the rows' entries."""
    projection = layout.projection
    weights = Weights.of_bank(projection.kind)
    given = {name.replace(".", "_"): one.value for name, one in tensors.items()} | {"entry": rows.entry}
    if projection.kind.has_rule and projection.shared_phm_rule:
        given |= dict.fromkeys([f"{side}_rule" for side in Side], given.pop("rule"))
    sites = [site.id for site in layout.config.sites]
    for place in places.sites():
        labels = {"compacter.site": place.site.id}
        emitter = Emitter(place.graph, f"compacter/bank/{place.name}", rows.dtype, labels, home=rows.graph)
        emit_open_sublayer(
            places.model,
            emitter,
            place.layer,
            given,
            weights=weights,
            activation=layout.config.non_linearity,
            around=place.around,
            site=sites.index(place.site.id),
        )


def _open_layer(rows: Rows, places: Places, layer: HeadLayer, neutral: dict[str, Array]) -> None:
    """Let a layer of the head multiply each row with its own weight."""
    linear, is_last = layer.linear, layer is places.head[-1]
    weight, bias = f"{Part.HEAD}.{layer.name}.weight", f"{Part.HEAD}.{layer.name}.bias"
    if is_last and bias not in neutral:
        raise CompacterError(
            ErrorCode.E605, "a bank needs a head with a bias, which says which labels a row has", value=layer.name
        )
    free = {1: LABELS} if is_last else {}
    W = rows.gather(weight, neutral[weight], free)
    b = rows.gather(bias, neutral[bias], free) if bias in neutral else None
    emitter = Emitter(rows.graph, f"compacter/bank/{Part.HEAD}/{layer.name}", rows.dtype, {"compacter.part": "head"})
    old = linear.output
    uses, producer = tuple(old.uses()), old.producer()
    if producer is None:  # a linear layer ends in a node
        raise TypeError("the head's layer has no producer")
    rank = None if places.head[-1].path[0].shape is None else len(places.head[-1].path[0].shape)
    is_matrix = rank == _MATRIX
    axis = integers_of(emitter).constant("axis", np.array([1]))
    x = emitter.op("Unsqueeze", [linear.input, axis], "rows") if is_matrix else linear.input
    y = emitter.op("MatMul", [x, W], "product")
    y = y if b is None else emitter.op("Add", [y, b], "biased")
    y = emitter.op("Squeeze", [y, axis], "result") if is_matrix else emitter.op("Identity", [y], "result")
    if old.shape is not None:
        y.shape = ir.Shape([*list(old.shape)[:-1], LABELS if is_last else old.shape[-1]])
    rows.graph.insert_after(producer, emitter.nodes)
    redirect(rows.graph, old, y, uses)
    for value in layer.path if is_last else ():
        if value.shape is not None:
            value.shape = ir.Shape([*list(value.shape)[:-1], LABELS])
