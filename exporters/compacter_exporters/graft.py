"""Merge an adapter into an exported backbone: sites, norms and head, without PyTorch and without a second export."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir

from compacter_core.adapter import Adapter
from compacter_core.format.reader import load_adapter
from compacter_exporters.forms import Form
from compacter_exporters.loaded_graph import load_one
from compacter_exporters.merging import Merged, merge
from compacter_exporters.metadata import write_metadata
from compacter_exporters.saving import save_beside


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
    graph = load_one(Path(backbone), loaded)
    merged = merge(graph.model, graph.present, loaded, form)
    return write_graft(graph.model, graph.path, Path(output), merged, loaded)


def write_graft(model: ir.Model, backbone: Path, output: Path, merged: Merged, adapter: Adapter) -> GraftReport:
    """Write a model that an adapter was merged into.

    Raises:
        CompacterError: E006 and E605, as `save_beside`.
    """
    write_metadata(model, adapter, merged.sites, merged.replaced)
    saved = save_beside(model, backbone, output, large=merged.large)
    return GraftReport(
        adapter=adapter.config.name,
        output=str(output),
        forms={site_id: site.form for site_id, site in merged.sites.items()},
        correlations=merged.correlations,
        replaced=tuple(merged.replaced),
        model_bytes=saved.model_bytes,
        data_files=saved.data_files,
        shared=saved.shared,
    )
