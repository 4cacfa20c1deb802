"""An adapter into a directory of graphs that belong together: an encoder-decoder's encoder and its decoders.

Each site is found in every graph that holds it, and every site in some graph. The result is a new directory with all
files of the old one: the graphs with the adapter in them, and whatever else is there, as it was.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_directory
from compacter_core.format.reader import load_adapter
from compacter_exporters.forms import Form
from compacter_exporters.graft import GraftReport, load_backbone, write_graft
from compacter_exporters.graph import external_tensors
from compacter_exporters.linears import find_linears
from compacter_exporters.merging import merge
from compacter_exporters.present import Present, present_in, require_all
from compacter_exporters.regions import Region, regions_of


@dataclass(frozen=True, slots=True)
class SetReport:
    """What a graft into a directory did.

    Args:
        adapter: the adapter's name.
        output: the directory written.
        graphs: what was done to each graph, by its file's name.
        untouched: graphs without a site of the adapter, copied as they are.
    """

    adapter: str
    output: str
    graphs: Mapping[str, GraftReport]
    untouched: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-compatible fields."""
        graphs = {name: report.as_dict() for name, report in self.graphs.items()}
        return {"adapter": self.adapter, "output": self.output, "graphs": graphs, "untouched": list(self.untouched)}


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """A graph of the directory and what of the adapter is in it."""

    path: Path
    model: ir.Model
    regions: list[Region]
    present: list[Present]


def graft_directory(backbone: Path, adapter: Path | Adapter, output: Path, *, form: Form = Form.AUTO) -> SetReport:
    """Write the new directory `output`: the backbone's files with the adapter merged into its graphs.

    Args:
        backbone: a directory of exported graphs.
        adapter: an adapter, its file, or a directory of the hub profile.
        output: created as a whole or not at all.
        form: how the sites are written.

    Raises:
        CompacterError: as `graft`; E005 for a directory without a graph; E604 for a site that is in none of the graphs,
            and for a graph that should hold sites of the adapter but has none.
    """
    loaded = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    source, target = Path(backbone), Path(output)
    graphs = _load_all(source, loaded)
    require_all(
        [region for graph in graphs for region in graph.regions],
        [one for graph in graphs for one in graph.present],
        loaded,
    )
    for graph in graphs:
        _check_not_stale(graph, loaded)
    reports: dict[str, GraftReport] = {}
    with atomic_directory(target) as directory:
        _copy_others(source, directory, graphs)
        for graph in graphs:
            if graph.present:
                name = graph.path.name
                merged = merge(graph.model, graph.present, loaded, form)
                report = write_graft(graph.model, graph.path, directory / name, merged, loaded)
                reports[name] = replace(report, output=str(target / name))
    untouched = tuple(graph.path.name for graph in graphs if not graph.present)
    return SetReport(loaded.config.name, str(target), reports, untouched)


def _load_all(source: Path, adapter: Adapter) -> list[_Loaded]:
    paths = sorted(source.glob("*.onnx"))
    if not paths:
        raise CompacterError(
            ErrorCode.E005, "a directory without ONNX graphs", value=str(source), expected="files that end in .onnx"
        )
    graphs = []
    for path in paths:
        model = load_backbone(path)
        regions = regions_of(model)
        graphs.append(_Loaded(path, model, regions, present_in(regions, adapter)))
    return graphs


def _check_not_stale(graph: _Loaded, adapter: Adapter) -> None:
    """Refuse a graph that has linears like the sites' but no site, though the adapter has sites in every stack."""
    config = adapter.config
    stacks = {site.stack for site in config.sites}
    if graph.present or config.backbone is None or not stacks >= set(config.backbone.num_layers):
        return
    layers = [layer for region in graph.regions for layer in find_linears(region.graph)]
    if any(layer.weight.shape[1] == config.hidden_size for layer in layers):
        raise CompacterError(
            ErrorCode.E604,
            "no site of the adapter is in this graph, though it has sites in every stack of the backbone",
            value=graph.path.name,
            expected="graphs of one export",
            remedy="Export the backbone again, or move graphs that do not belong to it to another directory.",
        )


def _copy_others(source: Path, target: Path, graphs: Sequence[_Loaded]) -> None:
    """Copy every file but the graphs that are grafted, and the external data of these alone."""
    rewritten = {graph.path.name for graph in graphs if graph.present}
    data = {graph.path.name: {Path(one.path).name for one in external_tensors(graph.model)} for graph in graphs}
    kept = {name for graph, names in data.items() if graph not in rewritten for name in names}
    replaced = {name for graph, names in data.items() if graph in rewritten for name in names} - kept
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name not in rewritten | replaced:
            shutil.copyfile(path, target / path.name)
