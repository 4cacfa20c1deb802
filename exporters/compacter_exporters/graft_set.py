"""An adapter into a directory of graphs that belong together."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from compacter_core.adapter import Adapter
from compacter_core.format.reader import load_adapter
from compacter_exporters.forms import Form
from compacter_exporters.graft import GraftReport, write_graft
from compacter_exporters.graph_set import load_set
from compacter_exporters.merging import merge


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


def graft_directory(
    backbone: Path,
    adapter: Path | Adapter,
    output: Path,
    *,
    form: Form = Form.AUTO,
    preferred: Form = Form.BIAS_LAST,
) -> SetReport:
    """Write the new directory `output`: the backbone's files with the adapter merged into its graphs.

    Args:
        backbone: a directory of exported graphs.
        adapter: an adapter, its file, or a directory of the hub profile.
        output: created as a whole or not at all.
        form: how the sites are written.
        preferred: what auto is for placements that allow fold.

    Raises:
        CompacterError: as `graft` and `load_set`.
    """
    loaded = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    target = Path(output)
    graphs = load_set(Path(backbone), loaded)
    reports: dict[str, GraftReport] = {}
    with graphs.copied_to(target) as directory:
        for graph in graphs.holders:
            name = graph.path.name
            merged = merge(graph.model, graph.present, loaded, form, preferred=preferred)
            report = write_graft(graph.model, graph.path, directory / name, merged, loaded)
            reports[name] = replace(report, output=str(target / name))
    return SetReport(loaded.config.name, str(target), reports, graphs.untouched)
