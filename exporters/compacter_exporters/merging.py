"""An adapter into a model in memory: overrides, head and sites, in every graph of the model that holds them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from compacter_core.adapter import Adapter
from compacter_core.config import AdapterConfig, Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import weight_name
from compacter_exporters.calls import calls_of, emit_sublayer
from compacter_exporters.difference_forms import emit_bias_first, emit_column
from compacter_exporters.dissolving import check_dissolvable, emit_dissolved
from compacter_exporters.emitter import Emitter
from compacter_exporters.forms import Form, allows_fold, connect, emit_bias_last, emit_fold, emit_plain
from compacter_exporters.heads import apply_head
from compacter_exporters.linears import linear_of
from compacter_exporters.metadata import GraftedSite
from compacter_exporters.overrides import apply_overrides, override_slots
from compacter_exporters.present import Present
from compacter_exporters.sites import FoundSite, check_biases
from compacter_exporters.surroundings import surroundings_of


@dataclass(slots=True)
class Merged:
    """What was put into a model. Where two branches have a site, form and names are those of the first.

    Args:
        sites: each site.
        correlations: of each site's weight with its sketch.
        replaced: SHA-256 of the initialisers that stand for norms, biases and the head, by name.
    """

    sites: dict[str, GraftedSite] = field(default_factory=dict)
    correlations: dict[str, float] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)

    @property
    def large(self) -> list[str]:
        """The initialisers that are as large as those of the backbone."""
        dissolved = (site for site in self.sites.values() if site.form == Form.DISSOLVED)
        return [name for site in dissolved for name in site.initialisers if name.endswith("/weight")]


def merge(
    model: ir.Model, present: Sequence[Present], adapter: Adapter, form: Form, *, preferred: Form = Form.BIAS_LAST
) -> Merged:
    """Change a model's graphs.

    Args:
        model: the model.
        present: what of the adapter its graphs hold.
        adapter: the whole adapter.
        form: how the sites are written.
        preferred: what auto is for placements that allow fold.

    Raises:
        CompacterError: E403, E404, E405, E604 and E605, as `graft`.
    """
    for one in present:
        for site in one.adapter.config.sites:
            _choose(one.adapter.config, site, form, preferred)
    merged = Merged(replaced=apply_head(model.graph, f"compacter/{adapter.config.name}/head", adapter))
    for one in present:
        _merge_region(model, one, merged, lambda config, site: _choose(config, site, form, preferred))
    # Most forms take the bias of a linear, which an override may have replaced, into a constant of their own.
    there = model.graph.initializers
    merged.replaced = {name: digest for name, digest in merged.replaced.items() if name in there}
    return merged


def _merge_region(
    model: ir.Model, present: Present, merged: Merged, form_of: Callable[[AdapterConfig, Site], Form]
) -> None:
    adapter, config = present.adapter, present.adapter.config
    check_biases(present.sites, adapter)
    layers = {site_id: one.linear for site_id, one in present.sites.items()}
    slots = override_slots(adapter, present.norms, layers)
    merged.replaced |= apply_overrides(model.graph, f"compacter/{config.name}/override", slots)
    for site in config.sites:
        found = present.sites[site.id]
        put = _put(model, present, found, form_of(config, site))
        first = merged.sites.get(site.id, put)
        merged.sites[site.id] = replace(first, initialisers={**first.initialisers, **put.initialisers})
        merged.correlations.setdefault(site.id, found.correlation)


def _put(model: ir.Model, present: Present, found: FoundSite, form: Form) -> GraftedSite:
    """Merge one site."""
    config, site, graph = present.adapter.config, found.site, present.region.graph
    # Read again: an override may have replaced its bias.
    layer = linear_of(found.linear.node) or found.linear
    around = surroundings_of(site.id, layer.output, present.norms, config.backbone)
    labels = {"compacter.adapter": config.name, "compacter.site": site.id}
    name = f"compacter/{config.name}/{site.id}"
    # A layer that is called again has its own nodes, but the same constants.
    prefix = f"{name}/call{present.call + 1}" if present.call else name
    emitter = Emitter(graph, prefix, layer.dtype, labels, home=model.graph, constants=name)
    opset = model.opset_imports.get("", 1)
    parameters = present.adapter.site(site.id)
    if form is Form.BIAS_LAST and layer.bias_add is None:
        form = Form.FOLD  # there is no node that could add the bias last
    slot = layer.bias_slot
    if form is Form.COLUMN and (layer.bias_add is None or layer.quantised is not None):
        form = Form.BIAS_FIRST  # the bias is added within the product already
    if form is Form.BIAS_FIRST and (slot is None or parameters.up.b is None):
        form = Form.PLAIN  # there is no bias to take up the adapter's, or none to be taken up
    if form is Form.DISSOLVED:
        output = emit_dissolved(emitter, layer, parameters, present.adapter.sketches[weight_name(site.id)])
    elif form is Form.BIAS_LAST and layer.bias_add is not None:
        output = emit_bias_last(emitter, layer, layer.bias_add, parameters, opset)
    elif form is Form.COLUMN:
        output = emit_column(emitter, layer, parameters, opset, around=around)
    elif form is Form.BIAS_FIRST and slot is not None:
        output = emit_bias_first(emitter, layer, slot, parameters, opset, around=around)
    elif form is Form.FOLD:
        output = emit_fold(emitter, layer, parameters, opset)
    elif form is Form.SUBLAYER:
        output = emit_sublayer(model, emitter, layer, parameters, around=around)
    elif form is Form.FUNCTION:
        delta = calls_of(model, emitter, parameters)
        output = connect(emitter, layer.output, delta, around=around, attach=config.attach_of(site))
    else:
        output = emit_plain(emitter, layer, parameters, opset, around=around, attach=config.attach_of(site))
    return GraftedSite(
        form=form.value,
        product=str(layer.product.name),
        output=str(output.name),
        initialisers=emitter.initialisers,
    )


def _choose(config: AdapterConfig, site: Site, form: Form, preferred: Form) -> Form:
    """The form of a site.

    Raises:
        CompacterError: E605 if a form is asked for where it does not exist.
    """
    possible = allows_fold(config.attach_of(site))
    if form is Form.DISSOLVED:
        check_dissolvable(config, site)
    if form is Form.AUTO:
        return preferred if possible else Form.PLAIN
    if form is Form.SUBLAYER and not possible:
        return Form.FUNCTION  # the nearest that has a kernel
    if form in (Form.FOLD, Form.BIAS_LAST, Form.BIAS_FIRST, Form.COLUMN) and not possible:
        raise CompacterError(
            ErrorCode.E605,
            f"site {site.id} cannot be folded: its adapter does not both read and add to the sublayer's output",
            value=str(config.attach_of(site)),
            expected="input = skip = sublayer_output",
            remedy="Use the form auto or plain.",
        )
    return form
