"""Building the graphs of a directory for a target: each as `recipe` builds one, and what they have in common once.

The graphs of an encoder-decoder hold the same weights up to three times: in the decoder, in that with a cache, and in
the one that is both.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

from compacter_core.adapter import Adapter
from compacter_core.format.atomic import atomic_directory, atomic_file, atomic_write
from compacter_core.format.reader import load_adapter
from compacter_exporters.fused.apart import put_together, take_apart
from compacter_exporters.fused.skip_norms import SkipNorm
from compacter_exporters.graft import GraftReport
from compacter_exporters.graft_set import SetReport, graft_directory
from compacter_exporters.graph import load_graph
from compacter_exporters.graph_set import load_set
from compacter_exporters.linkage.opening import OpenReport
from compacter_exporters.optimise.integers import quantise
from compacter_exporters.optimise.recipe import Announce, Recipe, prepared
from compacter_exporters.optimise.sums import keep_sums_apart
from compacter_exporters.optimise.targets import check_operators, check_precision
from compacter_exporters.own_data import SharedData
from compacter_exporters.saving import Saved, checked_bytes

DATA_FILE: Final = "weights.data"
"""The external data of all graphs."""

ReportT = TypeVar("ReportT", GraftReport, OpenReport)


def build_directory(
    backbone: Path,
    adapter: Path | Adapter,
    output: Path,
    recipe: Recipe,
    *,
    announce: Announce = lambda _: None,
) -> SetReport:
    """Write the new directory `output`: all graphs of a directory as the recipe says, and its other files.

    Args:
        backbone: a directory of exported graphs in fp32.
        adapter: an adapter, its file, or a directory of the hub profile.
        output: created as a whole or not at all.
        recipe: what to do. A graph without a site of the adapter is fused, narrowed and quantised like the others.
        announce: told of every step before it is done.

    Raises:
        CompacterError: as `build` and `graft_directory`.
    """
    loaded = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    check_precision(recipe.target, recipe.precision)
    target = Path(output)
    graphs = load_set(Path(backbone), loaded)  # refuses what does not fit, before anything that takes time
    with atomic_directory(target) as directory, TemporaryDirectory() as name:
        folder = Path(name)
        graphs.copy_besides(graphs.graphs, directory)
        sources = [prepared(graph.path, folder, recipe, loaded, announce) for graph in graphs.graphs]
        for source in sources:
            check_operators(load_graph(source), recipe.target)
        announce("grafting")
        report = graft_directory(
            sources[0].parent, loaded, folder / "merged", form=recipe.form, preferred=recipe.preferred
        )
        made = {graph.path.name: folder / "merged" / graph.path.name for graph in graphs.graphs}
        if recipe.precision.quantises:
            (folder / "quantised").mkdir()
            for file, merged in made.items():
                announce(f"quantising {file}")
                made[file] = folder / "quantised" / file
                quantise(merged, made[file], recipe.precision)
        saved = save_together(made, directory, sums_apart=recipe.sums_apart)
    return replace(report, output=str(target), graphs=saved_reports(report.graphs, target, saved))


def save_together(made: Mapping[str, Path], directory: Path, *, sums_apart: bool) -> dict[str, Saved]:
    """Write graphs, with the external data of all in one file (ONX-46)."""
    saved: dict[str, Saved] = {}
    path = directory / DATA_FILE
    with atomic_file(path) as stream:
        data = SharedData(path, stream)
        for name, file in made.items():
            model = load_graph(file)
            if sums_apart:
                take_apart(model, [SkipNorm()])
                keep_sums_apart(model)
                put_together(model)
            has_data = data.take(model)
            content = checked_bytes(model)
            atomic_write(directory / name, content)
            saved[name] = Saved(len(content), (DATA_FILE,) if has_data else (), shared=False)
    if not path.stat().st_size:
        path.unlink()
    return saved


def saved_reports(reports: Mapping[str, ReportT], target: Path, saved: Mapping[str, Saved]) -> dict[str, ReportT]:
    """The reports of graphs, of what was written in the end."""
    return {
        name: replace(
            one,
            output=str(target / name),
            model_bytes=saved[name].model_bytes,
            data_files=saved[name].data_files,
            shared=saved[name].shared,
        )
        for name, one in reports.items()
    }
