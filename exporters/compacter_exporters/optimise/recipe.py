"""Building one graph with an adapter merged into it: fuse, narrow, graft, quantise, in this order.

fp16 and bf16 come before the graft, whose constants are then rounded once, from the adapter's own values. Integers
come after it, since only the grafted graph shows what came from the adapter file and stays in float.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from compacter_core.adapter import Adapter
from compacter_core.format.reader import load_adapter
from compacter_exporters.forms import Form
from compacter_exporters.graft import GraftReport, write_graft
from compacter_exporters.graph import load_graph
from compacter_exporters.loaded_graph import load_backbone, load_one
from compacter_exporters.merging import merge
from compacter_exporters.optimise.choices import Fuser, Precision, Target
from compacter_exporters.optimise.fusing import fuse, knows
from compacter_exporters.optimise.halves import halve
from compacter_exporters.optimise.integers import quantise
from compacter_exporters.optimise.sums import keep_sums_apart
from compacter_exporters.optimise.targets import TRAITS, check_operators, check_precision
from compacter_exporters.saving import refuse_overwriting, save_beside

Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a graph is made.

    Args:
        target: where it will run.
        precision: of the backbone's weights.
        fuser: who fuses operators beforehand.
        form: how sites are written.
        sums_apart: whether residual sums are kept from being fused with norms when the graph is loaded.
    """

    target: Target = Target.CPU
    precision: Precision = Precision.FP32
    fuser: Fuser = Fuser.NONE
    form: Form = Form.AUTO
    sums_apart: bool = False

    @classmethod
    def best_known(cls, target: Target, precision: Precision, form: Form, adapter: Adapter) -> "Recipe":
        """What is best for a target where nothing was measured.

        Raises:
            CompacterError: E001 for a precision that the target does not run.
        """
        check_precision(target, precision)
        traits = TRAITS[target]
        fuser = traits.fuser if knows(traits.fuser, adapter.config) else Fuser.NONE
        return cls(target, precision, fuser, form, traits.sums_apart)

    @property
    def changes_weights(self) -> bool:
        """Whether more than the adapter changes the graph, so that the result has external data of its own."""
        return self.fuser is not Fuser.NONE or self.precision is not Precision.FP32

    @property
    def preferred(self) -> Form:
        """What the form auto is where the placement allows fold: no norm takes a bias from a sum that is kept apart.

        A session adds a bias within a quantised product, where it is best left.
        """
        if not self.sums_apart:
            return Form.BIAS_LAST
        return Form.BIAS_FIRST if self.precision.quantises else Form.COLUMN

    def as_dict(self) -> dict[str, object]:
        """What a report says about it: who fused is part of what was measured, or known from the target."""
        return {"target": self.target.value, "precision": self.precision.value}


def build(
    backbone: Path,
    adapter: Path | Adapter,
    output: Path,
    recipe: Recipe,
    *,
    announce: Announce = lambda _: None,
) -> GraftReport:
    """Write `output`: the backbone with the adapter merged into it, as the recipe says.

    Args:
        backbone: an exported ONNX model in fp32.
        adapter: an adapter, its file, or a directory of the hub profile.
        output: the .onnx file to write. In the backbone's directory both share the external data if nothing but the
            graft changes it.
        recipe: what to do.
        announce: told of every step before it is done.

    Raises:
        CompacterError: as `graft`; E001 for a precision that the target does not run; E605 for a graph with operators
            that it does not run, or a backbone that cannot be quantised or fused.
    """
    loaded = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    check_precision(recipe.target, recipe.precision)
    # Refuses one that carries an adapter, before anything that takes time.
    model = load_backbone(Path(backbone))
    if recipe.changes_weights:
        refuse_overwriting(model, Path(backbone), Path(output))
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = prepared(Path(backbone), folder, recipe, loaded, announce)
        check_operators(load_graph(source), recipe.target)
        announce("grafting")
        if not recipe.precision.quantises:
            return _grafted(source, loaded, Path(output), recipe)
        merged, quantised = folder / "merged.onnx", folder / "quantised.onnx"
        report = _grafted(source, loaded, merged, recipe)
        announce("quantising")
        quantise(merged, quantised, recipe.precision)
        saved = save_beside(load_graph(quantised), quantised, Path(output))
    return replace(
        report,
        output=str(output),
        model_bytes=saved.model_bytes,
        data_files=saved.data_files,
        shared=saved.shared,
    )


def _grafted(source: Path, adapter: Adapter, output: Path, recipe: Recipe) -> GraftReport:
    """As `graft`, with the sums as the recipe wants them."""
    graph = load_one(source, adapter)
    merged = merge(graph.model, graph.present, adapter, recipe.form, preferred=recipe.preferred)
    if recipe.sums_apart:
        keep_sums_apart(graph.model, quantised=recipe.precision.quantises)
    return write_graft(graph.model, graph.path, output, merged, adapter)


def prepared(backbone: Path, folder: Path, recipe: Recipe, adapter: Adapter, announce: Announce) -> Path:
    """The backbone fused and narrowed, under its own name in a folder for each step that was done to it."""
    if recipe.fuser is not Fuser.NONE:
        announce("fusing")
        fused = _new(folder / "fused", backbone)
        fuse(backbone, fused, recipe.fuser, adapter.config, recipe.target)
        backbone = fused
    if recipe.precision.narrows:
        announce("converting")
        half = _new(folder / "narrowed", backbone)
        halve(backbone, half, recipe.precision, recipe.target, adapter.config)
        backbone = half
    return backbone


def _new(folder: Path, graph: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / graph.name
