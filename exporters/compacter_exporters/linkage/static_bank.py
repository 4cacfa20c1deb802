"""A copy of a bank's graph that reads as if one of its adapters were merged into it: see `static`."""

from collections.abc import Mapping
from itertools import count

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter, Array, SiteParameters
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.gains import consumed_overrides
from compacter_core.layout import Part
from compacter_core.linkage.bank import BankLayout, bank_input
from compacter_core.linkage.dense import Dense
from compacter_exporters.calls import merge_into_call
from compacter_exporters.emitter import Emitter
from compacter_exporters.functions import Kind
from compacter_exporters.linkage.bank_norms import scale_in_norms
from compacter_exporters.linkage.bank_projections import INPUT
from compacter_exporters.linkage.bank_rows import ROWS
from compacter_exporters.linkage.insertion import BIAS
from compacter_exporters.linkage.opened import name_of_call
from compacter_exporters.linkage.static import take_place
from compacter_exporters.linkage.values import type_of


def merge_entry(model: ir.Model, layout: BankLayout, adapter: Adapter) -> None:
    """Put constants in the places of an adapter's entries: overrides, head and sites.

    Raises:
        CompacterError: E606 if the graph is not as the graft made it.
    """
    graph = model.graph
    nodes = {str(node.name): node for node in graph}
    dtype = type_of(layout.description)
    emitter = Emitter(graph, "compacter/static", dtype, {})
    _merge_overrides(layout, adapter, nodes, emitter)
    for name in () if adapter.config.head is None else adapter.config.head.layers:
        _merge_layer(graph, name, adapter, nodes, emitter)
    scale_in_norms(graph)
    here = {site.id for site in layout.config.sites}
    for site in adapter.config.sites:
        for call in count() if site.id in here else ():
            prefix = f"compacter/bank/{name_of_call(site.id, call)}/"
            called = next((node for name, node in nodes.items() if name in _calls(prefix)), None)
            if call and called is None and f"{prefix}delta" not in nodes:
                break
            if called is None:
                _merge_site(graph, prefix, Dense.of(adapter.site(site.id)), nodes, emitter)
            else:
                own = Emitter(graph, f"{emitter.prefix}/{prefix}", dtype, {})
                _merge_call(model, called, adapter.site(site.id), own)


def _merge_overrides(layout: BankLayout, adapter: Adapter, nodes: Mapping[str, ir.Node], emitter: Emitter) -> None:
    own = consumed_overrides(adapter)
    for tensor, names in layout.overrides.items():
        node = _node(nodes, bank_input(f"rows/{tensor}/split" if len(names) > 1 else f"rows/{tensor}"))
        for value, name in zip(node.outputs, names, strict=True):
            array = own.get(name, layout.description.replaced(Part.OVERRIDE, name))
            _replace_uses(value, emitter.constant(name, array))


def _merge_layer(graph: ir.Graph, layer: str, adapter: Adapter, nodes: Mapping[str, ir.Node], emitter: Emitter) -> None:
    tensors = adapter.part(Part.HEAD)
    prefix = f"compacter/bank/{Part.HEAD}/{layer}"
    result, product = _node(nodes, f"{prefix}/result"), _node(nodes, f"{prefix}/product")
    unsqueezed = nodes.get(f"{prefix}/rows")
    x = (unsqueezed or product).inputs[0]
    if x is None:
        raise _changed(prefix)
    y = _affine(emitter, x, layer, tensors[f"{layer}.weight"].T, tensors.get(f"{layer}.bias"))
    graph.insert_after(result, emitter.nodes)
    emitter.nodes.clear()
    take_place(graph, result.outputs[0], y)


def _merge_site(graph: ir.Graph, prefix: str, dense: Dense, nodes: Mapping[str, ir.Node], emitter: Emitter) -> None:
    """The delta of a site as two products with constants; its activation does not matter to who looks for places.

    The bias of the up-projection stays where the graph adds it.
    """
    delta, total = _node(nodes, f"{prefix}delta"), nodes.get(f"{prefix}{BIAS}")
    read = nodes.get(f"{prefix}{ROWS}") or _node(nodes, f"{prefix}down/{INPUT}")
    x = read.inputs[0]
    if x is None:
        raise _changed(prefix)
    z = _affine(emitter, x, f"{prefix}down", dense.Wd, dense.bd)
    v = _affine(emitter, z, f"{prefix}up", dense.Wu, None if total else dense.bu)
    if total:
        bu = np.zeros(dense.Wu.shape[-1]) if dense.bu is None else dense.bu
        total.replace_input_with(1, emitter.constant(f"{prefix}up/bias", bu))
    graph.insert_before(delta, emitter.nodes)
    emitter.nodes.clear()
    _replace_uses(delta.outputs[0], v)
    kept = {f"{prefix}output", f"{prefix}before_bias", f"{prefix}{BIAS}"}
    # Names of other calls begin so too.
    others = f"{prefix}call"
    inner = [
        node
        for name, node in nodes.items()
        if name.startswith(prefix) and not name.startswith(others) and name not in kept
    ]
    dead = [node for node in inner if _only_feeds(node, inner)]
    graph.remove(dead, safe=True)


def _calls(prefix: str) -> list[str]:
    """What a call may be named."""
    return [f"{prefix}{kind.lower()}" for kind in (Kind.RESIDUAL, Kind.NORM)]


def _merge_call(model: ir.Model, call: ir.Node, site: SiteParameters, emitter: Emitter) -> None:
    """A call with the constants of one adapter."""
    y = merge_into_call(model, emitter, call, site)
    model.graph.insert_before(call, emitter.nodes)
    take_place(model.graph, call.outputs[0], y)
    model.graph.remove(call, safe=True)


def _only_feeds(node: ir.Node, inner: list[ir.Node]) -> bool:
    """Whether nothing but the adapter reads what the node computes; copies of sums and norms are read by others."""
    readers = {reader for output in node.outputs for reader in output.consumers()}
    return not any(output.is_graph_output() for output in node.outputs) and all(
        reader in inner and _only_feeds(reader, inner) for reader in readers
    )


def _affine(emitter: Emitter, x: ir.Value, name: str, weight: Array, bias: Array | None) -> ir.Value:
    y = emitter.op("MatMul", [x, emitter.constant(f"{name}/weight", np.asarray(weight))], f"{name}/product")
    return y if bias is None else emitter.op("Add", [y, emitter.constant(f"{name}/bias", bias)], f"{name}/sum")


def _replace_uses(old: ir.Value, new: ir.Value) -> None:
    for node, index in tuple(old.uses()):
        node.replace_input_with(index, new)


def _node(nodes: Mapping[str, ir.Node], name: str) -> ir.Node:
    if name not in nodes:
        raise _changed(name)
    return nodes[name]


def _changed(name: str) -> CompacterError:
    return CompacterError(
        ErrorCode.E606,
        "the bank's graph is not as it was made",
        value=name,
        remedy="Graft again; an optimiser or another tool has changed the model.",
    )
