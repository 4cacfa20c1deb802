"""The fastest of several graphs that compute the same, at the shapes a user will run, measured on this machine.

Candidates differ in who fuses operators, in merged graphs in the form of the sites and, on CPUs, in whether a session
may fuse residual sums with norms (`sums`). Graphs that take adapters at run time are given the adapter. Each must agree
with the graph that nobody optimised before it may win, and must be faster than it by more than chance: otherwise that
one is written.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array
from compacter_core.errors import CompacterError
from compacter_core.format.reader import load_adapter
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.agreement import agreement
from compacter_exporters.checks import Check, Numbers
from compacter_exporters.forms import Form
from compacter_exporters.graft import GraftReport
from compacter_exporters.graph import load_graph
from compacter_exporters.linears import find_linears
from compacter_exporters.linkage.opening import OpenReport
from compacter_exporters.operators import CONTRIB
from compacter_exporters.optimise.adapted_graph import AdaptedGraph
from compacter_exporters.optimise.choices import Fuser, Precision
from compacter_exporters.optimise.fusing import knows
from compacter_exporters.optimise.measuring import Timing, measure
from compacter_exporters.optimise.open_recipe import build_linked, check_open_recipe
from compacter_exporters.optimise.recipe import Announce, Recipe
from compacter_exporters.optimise.shapes import Shape
from compacter_exporters.optimise.targets import TRAITS
from compacter_exporters.probe import random_inputs
from compacter_runtime.providers import choose_providers

Feeds = Sequence[tuple[Shape, dict[str, Array]]]
"""Inputs of a graph, besides those for adapters, and their shapes."""
_FORMS: Final = (Form.AUTO, Form.FOLD, Form.PLAIN)
_FORMS_APART: Final = (Form.AUTO, Form.BIAS_FIRST, Form.BIAS_LAST)
"""Where sums are kept apart, auto is column, or bias-first in int8 and int4."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate.

    Args:
        name: what was done: who fused, the form of the sites, and what is kept from being fused.
        timing: how long it takes; None where it may not win.
        problem: why it may not.
    """

    name: str
    timing: Timing | None = None
    problem: str | None = None

    def as_dict(self) -> dict[str, object]:
        """JSON-compatible fields."""
        times: dict[str, object] = {}
        if self.timing is not None:
            times = {"ms": self.timing.milliseconds, "ratio": self.timing.ratio, "limit": self.timing.limit}
        return {"name": self.name, **times, "problem": self.problem}


@dataclass(frozen=True, slots=True)
class TuneReport:
    """What was measured.

    Args:
        shapes: rows and tokens of the inputs.
        tried: the candidates, the unoptimised graph first.
        winner: the name of that which was written.
        graft: how.
    """

    shapes: tuple[Shape, ...]
    tried: tuple[Tried, ...]
    winner: str
    graft: GraftReport | OpenReport

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-compatible fields."""
        tuning = {
            "shapes": [str(shape) for shape in self.shapes],
            "winner": self.winner,
            "candidates": [one.as_dict() for one in self.tried],
        }
        return self.graft.as_dict() | {"tuning": tuning}

    def as_text(self) -> str:
        """A table, one line per candidate."""
        width = max(len(one.name) for one in self.tried)
        lines = [f"{'candidate':<{width}}  {'ms':>9}  {'ratio':>6}  {'limit':>6}"]
        for one in self.tried:
            mark = "  written" if one.name == self.winner else ""
            if one.timing is None:
                lines.append(f"{one.name:<{width}}  {one.problem}")
            else:
                timing = one.timing
                numbers = f"{timing.milliseconds:>9.2f}  {timing.ratio:>6.3f}  {timing.limit:>6.3f}"
                lines.append(f"{one.name:<{width}}  {numbers}{mark}")
        return "\n".join(lines)


def tune(
    backbone: Path,
    adapter: Path | Adapter,
    output: Path,
    recipe: Recipe,
    shapes: Sequence[Shape],
    *,
    linkage: Linkage = Linkage.MERGED,
    seconds: float = 20.0,
    announce: Announce = lambda _: None,
) -> TuneReport:
    """Write `output`: the fastest graph of this backbone and adapter.

    Args:
        backbone: an exported ONNX model in fp32.
        adapter: an adapter, its file, or a directory of the hub profile; of open graphs it is the template, and what
            they are measured with.
        output: the .onnx file to write.
        recipe: target and precision, and the form of the sites unless it is auto; the fuser is what is looked for.
        shapes: the inputs to measure with; the times of several are added.
        linkage: of the graph.
        seconds: to measure, besides the time to build.
        announce: told of every candidate that is built, and of every round that is measured.

    Raises:
        CompacterError: as `build` or `build_open`; E701 if the target's execution provider is not there; E704 for a
            graph that ONNX Runtime cannot load, E703 for one that it cannot run.
    """
    loaded = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    if linkage is not Linkage.MERGED:
        check_open_recipe(recipe)
    providers = [recipe.target.value]
    choose_providers(providers)
    generator = np.random.default_rng(0)
    unoptimised, *others = _candidates(recipe, loaded, linkage)
    with TemporaryDirectory() as name:
        folder = _Folder(Path(name), Path(backbone), loaded, linkage, providers, announce)
        first = folder.make(unoptimised)
        graph = load_graph(first).graph
        feeds = [(one, random_inputs(graph, generator, batch=one.batch, length=one.length)) for one in shapes]
        files, problems = {_name(unoptimised): first}, {}
        for candidate in others:
            problem = folder.problem_of(candidate, unoptimised, feeds)
            if problem is None:
                files[_name(candidate)] = folder.make(candidate)
            else:
                problems[_name(candidate)] = problem
        arms = {label: _arm(path, loaded, feeds, providers) for label, path in files.items()}
        timings = measure(arms, seconds, generator, lambda: announce("measuring"))
        del arms
    winner = choose(timings)
    recipes = {_name(one): one for one in (unoptimised, *others)}
    report = build_linked(Path(backbone), loaded, Path(output), linkage, recipes[winner])
    tried = tuple(Tried(label, timings.get(label), problems.get(label)) for label in recipes)
    return TuneReport(tuple(shapes), tried, winner, report)


def choose(timings: dict[str, Timing]) -> str:
    """The name of the fastest of those that are faster than the first by more than chance, else that of the first."""
    first, *_ = timings
    faster = [name for name, timing in timings.items() if timing.limit < 1]
    return min(faster, key=lambda name: timings[name].ratio, default=first)


def _candidates(recipe: Recipe, adapter: Adapter, linkage: Linkage) -> Iterator[Recipe]:
    """The graph that nobody optimised, then all others that the target can run."""
    usual = replace(recipe, fuser=Fuser.NONE, sums_apart=False)
    is_choice = recipe.form is Form.AUTO and linkage is Linkage.MERGED
    for form in _FORMS if is_choice else (recipe.form,):
        yield replace(usual, form=form)
    apart = replace(usual, sums_apart=True)
    for form in _FORMS_APART if is_choice else (recipe.form,):
        if TRAITS[recipe.target].sums_apart and form is not apart.preferred:
            yield replace(apart, form=form)
    if CONTRIB in TRAITS[recipe.target].domains:
        for fuser in Fuser:
            if fuser is not Fuser.NONE and knows(fuser, adapter.config):
                yield replace(usual, fuser=fuser)


def _name(recipe: Recipe) -> str:
    return f"{recipe.fuser}, {recipe.form}{', sums apart' if recipe.sums_apart else ''}"


@dataclass(frozen=True, slots=True)
class _Folder:
    """Where candidates are built."""

    path: Path
    backbone: Path
    adapter: Adapter
    linkage: Linkage
    providers: Sequence[str]
    announce: Announce

    def make(self, recipe: Recipe) -> Path:
        """Build a graph, unless it is there."""
        file = self.path / f"{recipe.precision}-{recipe.fuser}-{recipe.form}-{recipe.sums_apart}.onnx"
        if not file.exists():
            self.announce(f"building {_name(recipe)}")
            build_linked(self.backbone, self.adapter, file, self.linkage, recipe)
        return file

    def problem_of(self, candidate: Recipe, unoptimised: Recipe, feeds: Feeds) -> str | None:
        """Why a candidate may not win, if there is a reason.

        Integers round what fusing changed by a rounding to another integer now and then. So candidates are compared
        before their weights are quantised: the same weights, and the same quantiser.
        """
        precision = Precision.FP32 if candidate.precision.quantises else candidate.precision
        try:
            pair = [self.make(replace(one, precision=precision)) for one in (unoptimised, candidate)]
            graphs = [AdaptedGraph.opened(path, self.adapter, self.providers) for path in pair]
            numbers = Numbers.of(find_linears(load_graph(pair[0]).graph)[0].dtype)
            runs = [[graph.given(shape.batch).run(inputs) for graph in graphs] for shape, inputs in feeds]
            check = Check.worst(agreement(first, second, numbers) for first, second in runs)
        except CompacterError as error:
            return str(error)
        return None if check.ok else f"outputs differ: {check.ratio:.3g} of what rounding explains"


def _arm(path: Path, adapter: Adapter, feeds: Feeds, providers: Sequence[str]) -> Callable[[], None]:
    graph = AdaptedGraph.opened(path, adapter, providers, timed=True)
    given = [(graph.given(shape.batch), inputs) for shape, inputs in feeds]

    def run() -> None:
        for rows, inputs in given:
            rows.run(inputs)

    return run
