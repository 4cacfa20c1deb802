"""Opening a backbone for adapters at run time, for a target: fuse, narrow, quantise, open, in this order.

What is merged is quantised after the graft, what is open before: without an adapter it is then the quantised backbone
(LNK-2), and no quantiser sees the inputs for adapters, of which it would drop those that a graph of a directory has
for the others (LNK-17). What an adapter gives stays in float (ONX-38).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_directory
from compacter_core.format.reader import load_adapter
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.graft import GraftReport
from compacter_exporters.graph import load_graph
from compacter_exporters.graph_set import load_set
from compacter_exporters.linkage.open_set import open_directory, opener_of
from compacter_exporters.linkage.opening import OpenReport, OpenSetReport, check_form, open_file
from compacter_exporters.loaded_graph import load_one
from compacter_exporters.optimise.choices import Precision, Target
from compacter_exporters.optimise.integers import quantise
from compacter_exporters.optimise.recipe import Announce, Recipe, build, prepared
from compacter_exporters.optimise.recipe_set import save_together, saved_reports
from compacter_exporters.optimise.targets import check_operators, check_precision
from compacter_exporters.saving import refuse_overwriting

_PRECISIONS: Final[Mapping[Target, tuple[Precision, ...]]] = {
    Target.CPU: (Precision.FP32, Precision.INT8, Precision.INT4),
    Target.CUDA: (Precision.FP32, Precision.FP16, Precision.INT4),
}
"""Of open graphs. No adapter stands there as tensors without elements, which we know of no other target to take. NumPy,
and so ONNX Runtime in Python, has no bf16 to give an adapter in."""


def build_linked(
    backbone: Path,
    adapter: Adapter,
    output: Path,
    linkage: Linkage,
    recipe: Recipe,
    *,
    announce: Announce = lambda _: None,
) -> GraftReport | OpenReport:
    """`build` for the linkage merged, `build_open` for others."""
    if linkage is Linkage.MERGED:
        return build(backbone, adapter, output, recipe, announce=announce)
    return build_open(backbone, adapter, output, linkage, recipe, announce=announce)


def build_open(
    backbone: Path,
    template: Path | Adapter,
    output: Path,
    linkage: Linkage,
    recipe: Recipe,
    *,
    announce: Announce = lambda _: None,
) -> OpenReport:
    """Write `output`: the backbone as the recipe says, with the places of the template open for adapters.

    Args:
        backbone: an exported ONNX model in fp32.
        template: an adapter, its file or directory, as for `graft_swappable`.
        output: the .onnx file to write. In the backbone's directory both share the external data if nothing but the
            opening changes it.
        linkage: swappable or bank.
        recipe: what to do; its form as `graft_swappable` has it.
        announce: told of every step before it is done.

    Raises:
        CompacterError: as `graft_swappable`; E001 for a target or a precision that open graphs are not made for; E605
            for a graph with operators that the target does not run, or a backbone that cannot be quantised or fused.
    """
    loaded = template if isinstance(template, Adapter) else load_adapter(template)
    check_open_recipe(recipe)
    model = load_one(Path(backbone), loaded).model  # refuses what does not fit, before anything that takes time
    if recipe.changes_weights:
        refuse_overwriting(model, Path(backbone), Path(output))
    with TemporaryDirectory() as name:
        source = _ready(Path(backbone), Path(name), recipe, loaded, announce)
        announce("opening")
        opener = opener_of(linkage, sums_apart=recipe.sums_apart)
        return open_file(source, loaded, output, opener, sums_apart=recipe.sums_apart, form=recipe.form)


def build_open_directory(
    backbone: Path,
    template: Path | Adapter,
    output: Path,
    linkage: Linkage,
    recipe: Recipe,
    *,
    announce: Announce = lambda _: None,
) -> OpenSetReport:
    """Write the new directory `output`: all graphs of a directory as the recipe says, opened, and its other files.

    Args:
        backbone: a directory of exported graphs in fp32.
        template: as for `build_open`.
        output: created as a whole or not at all.
        linkage: swappable or bank.
        recipe: what to do. A graph without a site of the template is fused, narrowed and quantised like the others.
        announce: told of every step before it is done.

    Raises:
        CompacterError: as `build_open` and `load_set`.
    """
    loaded = template if isinstance(template, Adapter) else load_adapter(template)
    check_open_recipe(recipe)
    target = Path(output)
    graphs = load_set(Path(backbone), loaded)  # refuses what does not fit, before anything that takes time
    with atomic_directory(target) as directory, TemporaryDirectory() as name:
        folder = Path(name)
        graphs.copy_besides(graphs.graphs, directory)
        sources = [_ready(graph.path, folder, recipe, loaded, announce) for graph in graphs.graphs]
        announce("opening")
        report = open_directory(
            sources[0].parent, loaded, folder / "opened", linkage, sums_apart=recipe.sums_apart, form=recipe.form
        )
        made = {source.name: folder / "opened" / source.name for source in sources}
        saved = save_together(made, directory, sums_apart=recipe.sums_apart)
    return replace(report, output=str(target), graphs=saved_reports(report.graphs, target, saved))


def check_open_recipe(recipe: Recipe) -> None:
    """Refuse what open graphs are not made for.

    Raises:
        CompacterError: E001.
    """
    check_precision(recipe.target, recipe.precision)
    check_form(recipe.form)
    if recipe.precision not in _PRECISIONS.get(recipe.target, ()):
        pairs = [f"{target} in {', '.join(precisions)}" for target, precisions in _PRECISIONS.items()]
        raise CompacterError(
            ErrorCode.E001,
            "no graph that takes adapters at run time is made for this target in this precision",
            value=f"{recipe.target} in {recipe.precision}",
            expected="; ".join(pairs),
            remedy="Use the linkage merged.",
        )


def _ready(backbone: Path, folder: Path, recipe: Recipe, template: Adapter, announce: Announce) -> Path:
    """The backbone as it is opened, under its own name in a folder for each step that was done to it."""
    source = prepared(backbone, folder, recipe, template, announce)
    check_operators(load_graph(source), recipe.target)
    if not recipe.precision.quantises:
        return source
    announce(f"quantising {source.name}")
    quantised = folder / "quantised" / source.name
    quantised.parent.mkdir(exist_ok=True)
    quantise(source, quantised, recipe.precision)
    return quantised
