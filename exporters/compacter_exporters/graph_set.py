"""A directory of graphs that belong together: an encoder-decoder's encoder and its decoders.

Each site is found in every graph that holds it, and every site in some graph. What is made of it is a new directory
with all files of the old one: the graphs with what was done to them, and whatever else is there, as it was.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_directory
from compacter_exporters.graph import external_tensors
from compacter_exporters.linears import find_linears
from compacter_exporters.loaded_graph import LoadedGraph, load_graph_with
from compacter_exporters.present import require_all


@dataclass(frozen=True, slots=True, eq=False)
class GraphSet:
    """The graphs of a directory.

    Args:
        source: the directory.
        graphs: all of them, by their names' order.
    """

    source: Path
    graphs: Sequence[LoadedGraph]

    @property
    def holders(self) -> list[LoadedGraph]:
        """The graphs that hold a site of the adapter."""
        return [graph for graph in self.graphs if graph.present]

    @property
    def untouched(self) -> tuple[str, ...]:
        """The names of the others."""
        return tuple(graph.path.name for graph in self.graphs if not graph.present)

    @contextmanager
    def copied_to(self, target: Path) -> Iterator[Path]:
        """The directory that becomes `target`, with everything but the graphs that hold a site and their own data.

        Raises:
            CompacterError: E006 if the target is there already, or cannot be written.
        """
        with atomic_directory(target) as directory:
            self.copy_besides(self.holders, directory)
            yield directory

    def copy_besides(self, rewritten: Sequence[LoadedGraph], directory: Path) -> None:
        """Copy all files but these graphs and the external data of these alone."""
        replaced = self._replaced({graph.path.name for graph in rewritten})
        for path in sorted(self.source.iterdir()):
            if path.is_file() and path.name not in replaced:
                shutil.copyfile(path, directory / path.name)

    def _replaced(self, rewritten: set[str]) -> set[str]:
        data = {
            one.path.name: {Path(tensor.path).name for tensor in external_tensors(one.model)} for one in self.graphs
        }
        kept = {name for graph, names in data.items() if graph not in rewritten for name in names}
        return rewritten | {name for graph, names in data.items() if graph in rewritten for name in names} - kept


def load_set(source: Path, adapter: Adapter) -> GraphSet:
    """The graphs of a directory, which hold the adapter together.

    Raises:
        CompacterError: as `graft`; E005 for a directory without a graph; E604 for a site that is in none of the graphs,
            and for a graph that should hold sites of the adapter but has none.
    """
    paths = sorted(source.glob("*.onnx"))
    if not paths:
        raise CompacterError(
            ErrorCode.E005, "a directory without ONNX graphs", value=str(source), expected="files that end in .onnx"
        )
    graphs = [load_graph_with(path, adapter) for path in paths]
    require_all(
        [region for graph in graphs for region in graph.regions],
        [one for graph in graphs for one in graph.present],
        adapter,
    )
    for graph in graphs:
        _check_not_stale(graph, adapter)
    return GraphSet(source, graphs)


def _check_not_stale(graph: LoadedGraph, adapter: Adapter) -> None:
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
