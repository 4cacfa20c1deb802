"""Merge an adapter into an exported backbone: sites, norms and head, without PyTorch and without a second export."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir

from compacter_core.adapter import Adapter
from compacter_core.config import Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_exporters.emitter import Emitter
from compacter_exporters.forms import Form, allows_fold, emit_fold, emit_plain
from compacter_exporters.graph import load_graph
from compacter_exporters.heads import apply_head
from compacter_exporters.linears import find_linears, linear_of
from compacter_exporters.metadata import GraftedSite, is_grafted, write_metadata
from compacter_exporters.norms import Norm, find_norms
from compacter_exporters.overrides import apply_overrides, override_slots
from compacter_exporters.saving import save_beside
from compacter_exporters.sites import FoundSite, check_biases, find_sites
from compacter_exporters.surroundings import surroundings_of


@dataclass(frozen=True, slots=True)
class GraftReport:
    """What a graft did.

    Args:
        adapter: the adapter's name.
        output: the model written.
        forms: form of each site.
        correlations: of each site's weight with its sketch; 1 for the very weights the adapter was trained on.
        replaced: initialisers that stand for norms, biases and the head.
        model_bytes: size of the .onnx file, external data not counted.
        data_files: external data files of the model, by name.
        shared: whether the model shares them with the backbone.
    """

    adapter: str
    output: str
    forms: Mapping[str, str]
    correlations: Mapping[str, float]
    replaced: tuple[str, ...]
    model_bytes: int
    data_files: tuple[str, ...]
    shared: bool

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-compatible fields."""
        return asdict(self)


def graft(backbone: Path, adapter: Path | Adapter, output: Path, *, form: Form = Form.AUTO) -> GraftReport:
    """Write `output`: the backbone with the adapter merged into it.

    Args:
        backbone: an exported ONNX model, as the exporter wrote it.
        adapter: an adapter, its file, or a directory of the hub profile.
        output: the .onnx file to write; in the backbone's directory both share the external data.
        form: how the sites are written.

    Raises:
        CompacterError: E005, E006; what reading an adapter raises; E401, E404, E405 for an adapter that does not fit;
            E604 for a site, norm or head that is not in the graph; E605 for a form that a site's placement does not
            allow, or a model that carries an adapter already.
    """
    loaded = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    model = load_graph(Path(backbone))
    if is_grafted(model):
        raise CompacterError(
            ErrorCode.E605,
            "the model carries an adapter already",
            value=str(backbone),
            expected="an exported backbone",
            remedy="Graft into the backbone's own export.",
        )
    sites, replaced, found = _merge(model, loaded, form)
    write_metadata(model, loaded, sites, replaced)
    saved = save_beside(model, Path(backbone), Path(output))
    return GraftReport(
        adapter=loaded.config.name,
        output=str(output),
        forms={site_id: site.form for site_id, site in sites.items()},
        correlations={site_id: one.correlation for site_id, one in found.items()},
        replaced=tuple(replaced),
        model_bytes=saved.model_bytes,
        data_files=saved.data_files,
        shared=saved.shared,
    )


def _merge(
    model: ir.Model, adapter: Adapter, form: Form
) -> tuple[dict[str, GraftedSite], dict[str, str], dict[str, FoundSite]]:
    """Change the graph in memory; returns what was put in, what was replaced, and what was found."""
    graph, config = model.graph, adapter.config
    prefix = f"compacter/{config.name}"
    chosen = {site.id: _choose(adapter, site, form) for site in config.sites}
    found = find_sites(find_linears(graph), adapter)
    check_biases(found, adapter)
    in_order = find_norms(graph)
    layers = {site_id: one.linear for site_id, one in found.items()}
    replaced = apply_overrides(graph, f"{prefix}/override", override_slots(adapter, in_order, layers))
    replaced |= apply_head(graph, f"{prefix}/head", adapter)
    sites = {site.id: _put(graph, adapter, found[site.id], in_order, chosen[site.id]) for site in config.sites}
    return sites, replaced, found


def _put(graph: ir.Graph, adapter: Adapter, found: FoundSite, in_order: list[Norm], form: Form) -> GraftedSite:
    """Merge one site."""
    config, site = adapter.config, found.site
    # Read again: an override may have replaced its bias.
    layer = linear_of(found.linear.node) or found.linear
    around = surroundings_of(site.id, layer.output, in_order, config.backbone)
    labels = {"compacter.adapter": config.name, "compacter.site": site.id}
    emitter = Emitter(graph, f"compacter/{config.name}/{site.id}", layer.dtype, labels)
    opset = graph.opset_imports.get("", 1)
    parameters = adapter.site(site.id)
    if form is Form.FOLD:
        output = emit_fold(emitter, layer, parameters, opset)
    else:
        output = emit_plain(emitter, layer, parameters, opset, around=around, attach=config.attach_of(site))
    return GraftedSite(
        form=form.value,
        product=str(layer.product.name),
        output=str(output.name),
        initialisers=emitter.initialisers,
    )


def _choose(adapter: Adapter, site: Site, form: Form) -> Form:
    """The form of a site.

    Raises:
        CompacterError: E605 if fold is asked for where it does not exist.
    """
    possible = allows_fold(adapter.config.attach_of(site))
    if form is Form.AUTO:
        return Form.FOLD if possible else Form.PLAIN
    if form is Form.FOLD and not possible:
        raise CompacterError(
            ErrorCode.E605,
            f"site {site.id} cannot be folded: its adapter does not both read and add to the sublayer's output",
            value=str(adapter.config.attach_of(site)),
            expected="input = skip = sublayer_output",
            remedy="Use the form auto or plain.",
        )
    return form
