"""Choosing a graph by measurement: what may win, what is measured, and what is reported."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.agreement import agreement
from compacter_exporters.checks import Numbers
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graph import load_graph
from compacter_exporters.linkage.open_set import opener_of
from compacter_exporters.linkage.opening import open_file
from compacter_exporters.optimise import measuring, recipe
from compacter_exporters.optimise.adapted_graph import AdaptedGraph
from compacter_exporters.optimise.choices import Fuser, Precision, Target
from compacter_exporters.optimise.measuring import Timing, measure, timed_session, upper_limit
from compacter_exporters.optimise.recipe import Recipe
from compacter_exporters.optimise.shapes import Shape
from compacter_exporters.optimise.tuning import choose, tune
from compacter_exporters.probe import random_inputs
from compacter_exporters.verify import verify
from compacter_runtime import kernels
from tests.exporters.conftest import Exported
from tests.exporters.test_exports import trained

SHAPES = (Shape(1, 4), Shape(2, 3))


class Clock:
    """A clock that only the measured functions move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def arm(self, name: str, first: float, warm: float) -> "Arm":
        return Arm(self, name, first, warm)


class Arm:
    """A function that takes longer when another one ran before it."""

    def __init__(self, clock: Clock, name: str, first: float, warm: float) -> None:
        self.clock, self.name, self.first, self.warm = clock, name, first, warm

    def __call__(self) -> None:
        last = self.clock.calls[-1] if self.clock.calls else None
        self.clock.now += self.warm if last == self.name else self.first
        self.clock.calls.append(self.name)


def test_functions_are_measured_warm_and_in_every_order(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(measuring, "time", clock)
    arms = {"a": clock.arm("a", 9.0, 2.0), "b": clock.arm("b", 50.0, 1.0)}
    found = measure(arms, 1000.0, np.random.default_rng(0))
    assert found == {"a": Timing(2000.0, 1.0, 1.0), "b": Timing(1000.0, 0.5, 0.5)}
    starts = clock.calls[0::4]
    assert {"a", "b"} == set(starts)
    assert len(clock.calls) % 4 == 0


@given(st.lists(st.floats(0.5, 2.0), min_size=10, max_size=200))
def test_the_limit_is_above_the_median(values: list[float]) -> None:
    ordered = sorted(values)
    assert float(np.median(ordered)) <= upper_limit(ordered) <= ordered[-1]


def test_the_limit_holds_the_median_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    missed = sum(upper_limit(np.sort(generator.exponential(size=40)).tolist()) < np.log(2) for _ in range(2000))
    # One-sided 2.5 %: 50 of 2000 are expected, with a standard deviation of 7.
    assert missed <= 50 + 4 * 7


@given(
    st.lists(st.tuples(st.floats(0.5, 1.5), st.floats(0.0, 0.5)), max_size=6),
)
def test_what_wins_is_faster_by_more_than_chance(others: list[tuple[float, float]]) -> None:
    timings = {"first": Timing(1.0, 1.0, 1.0)}
    timings |= {str(i): Timing(ratio, ratio, ratio + more) for i, (ratio, more) in enumerate(others)}
    winner = choose(timings)
    faster = {name for name, one in timings.items() if one.limit < 1}
    assert winner in (faster or {"first"})
    assert all(timings[winner].ratio <= timings[name].ratio for name in faster)


@pytest.mark.spec("ONX-41")
def test_the_winner_is_written(exported: Exported, tmp_path: Path) -> None:
    backbone, (adapter, _) = exported("bert", "torchscript17"), trained("bert")
    rounds: list[str] = []
    report = tune(
        backbone,
        adapter,
        tmp_path / "model.onnx",
        Recipe(),
        SHAPES,
        seconds=0,
        announce=rounds.append,
    )
    assert verify(tmp_path / "model.onnx", adapter).ok
    names = [one.name for one in report.tried]
    unfused = ["none, auto", "none, fold", "none, plain"]
    unfused += [f"none, {form}, sums apart" for form in ("auto", "bias-first", "bias-last")]
    assert names == [*unfused, *(f"{one}, auto" for one in list(Fuser)[1:])]
    assert [one.name for one in report.tried if one.timing is None] == []
    assert rounds.count("measuring") == 10
    written = next(one for one in report.tried if one.name == report.winner)
    assert written.timing is not None
    assert report.winner == names[0] or written.timing.limit < 1
    data = report.as_dict()
    assert data["tuning"]["winner"] == report.winner  # type: ignore[index]
    assert data["output"] == str(tmp_path / "model.onnx")
    assert [line for line in report.as_text().splitlines() if line.endswith("written")] == [
        line for line in report.as_text().splitlines() if line.startswith(f"{report.winner}  ")
    ]


@pytest.mark.spec("ONX-41")
@pytest.mark.parametrize("form", [Form.AUTO, Form.SUBLAYER])
@pytest.mark.parametrize("linkage", [Linkage.SWAPPABLE, Linkage.BANK])
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_open_graphs_are_measured_with_the_adapter(
    exported: Exported, tmp_path: Path, linkage: Linkage, form: Form, precision: Precision
) -> None:
    backbone, (adapter, _) = exported("bert", "dynamo"), trained("bert")
    path, recipe = tmp_path / "model.onnx", Recipe(precision=precision, form=form)
    report = tune(backbone, adapter, path, recipe, SHAPES, linkage=linkage, seconds=0)
    first = f"none, {form}"
    names = [first, f"{first}, sums apart", *(f"{fuser}, {form}" for fuser in list(Fuser)[1:])]
    assert [one.name for one in report.tried] == names
    timed = [one.name for one in report.tried if one.timing is not None]
    assert {first, f"{first}, sums apart"} <= set(timed)
    assert report.winner in timed
    assert report.as_dict()["linkage"] == linkage.value
    assert verify(path, adapter).ok


@pytest.mark.spec("ONX-41")
@pytest.mark.parametrize("linkage", [Linkage.SWAPPABLE, Linkage.BANK])
@pytest.mark.parametrize("form", [Form.AUTO, Form.SUBLAYER])
def test_a_tuned_graph_is_given_the_adapter_in_every_row(
    exported: Exported, tmp_path: Path, linkage: Linkage, form: Form
) -> None:
    """What is compared and measured is the adapter, not the backbone."""
    backbone, (adapter, _) = exported("bert", "dynamo"), trained("bert")
    graft(backbone, adapter, tmp_path / "merged.onnx")
    open_file(backbone, adapter, tmp_path / "open.onnx", opener_of(linkage, sums_apart=False), form=form)
    graph = load_graph(tmp_path / "merged.onnx").graph
    inputs = random_inputs(graph, np.random.default_rng(0), batch=3, length=5)
    merged, opened = (
        AdaptedGraph.opened(tmp_path / f"{name}.onnx", adapter, ["cpu"], timed=timed).given(3).run(inputs)
        for name, timed in (("merged", False), ("open", True))
    )
    assert merged.keys() == opened.keys()
    assert agreement(merged, opened, Numbers.of(ir.DataType.FLOAT)).ok


@pytest.mark.spec("ONX-41")
def test_a_candidate_that_computes_something_else_cannot_win(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, (adapter, _) = exported("bert", "torchscript17"), trained("bert")

    def spoil(source: Path, target: Path, fuser: Fuser, *_: object) -> None:
        if fuser is Fuser.SESSION:
            raise CompacterError(ErrorCode.E605, "cannot be fused")
        if fuser is Fuser.ONNXSCRIPT:
            shutil.copyfile(source, target)
            return
        model = onnx.load(source)
        table = next(one for one in model.graph.initializer if "word_embeddings" in one.name)
        table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table) * np.float32(1.001), table.name))
        onnx.save(model, target)

    monkeypatch.setattr(recipe, "fuse", spoil)
    report = tune(
        backbone, adapter, tmp_path / "model.onnx", Recipe(precision=Precision.INT8, form=Form.FOLD), SHAPES, seconds=0
    )
    problems = {one.name: one.problem or "" for one in report.tried}
    assert "cannot be fused" in problems["session, fold"]
    assert "outputs differ" in problems["transformers, fold"]
    timed = ["none, fold", "none, fold, sums apart", "onnxscript, fold"]
    assert [one.name for one in report.tried if one.timing] == timed
    assert "outputs differ" in report.as_text()


def test_a_provider_that_is_not_there_is_refused(exported: Exported, tmp_path: Path) -> None:
    adapter, _ = trained("bert")
    with pytest.raises(CompacterError) as caught:
        tune(exported("bert", "torchscript17"), adapter, tmp_path / "model.onnx", Recipe(Target.WEBGPU), SHAPES)
    assert caught.value.code is ErrorCode.E701
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["8", "8x", "0x4", "8x0", "-1x4", "8x128x2", "8 x 128", "٣x4", "9999999x1"])
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(CompacterError) as caught:
        Shape.parse(text)
    assert caught.value.code is ErrorCode.E001


@given(st.integers(1, 999_999), st.integers(1, 999_999))
def test_shapes_are_read_as_they_are_written(batch: int, length: int) -> None:
    shapes: Sequence[Shape] = [Shape.parse(f"{batch}x{length}")]
    assert shapes == [Shape(batch, length)]
    assert str(shapes[0]) == f"{batch}x{length}"


def test_graphs_with_calls_are_timed_on_kernels(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, _ = trained("bert")
    registered: list[onnxruntime.SessionOptions] = []
    monkeypatch.setattr(kernels, "register", registered.append)
    for form, sessions in ((Form.PLAIN, 0), (Form.SUBLAYER, 1)):
        path = tmp_path / f"{form}.onnx"
        graft(exported("bert", "dynamo"), adapter, path, form=form)
        timed_session(path, ["CPUExecutionProvider"])
        assert len(registered) == sessions
