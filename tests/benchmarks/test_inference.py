"""The inference benchmark: its graphs, its sessions, and what it makes of their times."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import inference
from benchmarks.inference_choices import PRECISIONS, Arm
from benchmarks.inference_models import Models
from benchmarks.inference_sessions import SESSIONS, open_session
from benchmarks.inference_times import Ratio, Times, figures_of
from compacter_core.cli.main import main
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.optimise.choices import Precision, Target
from compacter_exporters.verify import verify
from tests.benchmarks.openings import ARMS, SHAPES

ROOT = Path(__file__).parents[2]
CPU_GRAPHS = {
    Arm.MERGED: [],
    Arm.MERGED_APART: ["--target", "cpu"],
    Arm.MERGED_KERNELS: ["--target", "cpu", "--form", "sublayer"],
    Arm.SWAPPABLE: ["--target", "cpu", "--linkage", "swappable"],
    Arm.BANK: ["--target", "cpu", "--linkage", "bank"],
    Arm.BANK_KERNELS: ["--target", "cpu", "--linkage", "bank", "--form", "sublayer"],
}
SECONDS = st.floats(0.5, 2.0)


def python(*words: str) -> Any:
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(name="seen", scope="module")
def _seen(tiny: dict[Precision, Models]) -> Any:
    """What `openings` saw in three of them."""
    return python("tests.benchmarks.openings", str(directory_of(tiny)), "3")


def directory_of(tiny: dict[Precision, Models]) -> Path:
    return tiny[Precision.FP32].source.directory


@pytest.mark.parametrize("precision", PRECISIONS[Target.CPU])
@pytest.mark.parametrize("arm", CPU_GRAPHS)
def test_graphs_for_cpus_are_those_that_graft_writes(
    tiny: dict[Precision, Models], precision: Precision, arm: Arm
) -> None:
    models = tiny[precision]
    backbone, measured = models.path(Arm.BACKBONE), models.path(arm)
    written = measured.with_name(f"written-{measured.name}")
    assert main(["graft", str(backbone), str(models.source.file), "-o", str(written), *CPU_GRAPHS[arm]]) == 0
    assert measured.read_bytes() == written.read_bytes()
    assert verify(measured, models.source.file).ok


def test_all_sessions_are_opened_again_for_every_opening_in_another_order(seen: Any) -> None:
    size = len(ARMS) - 1 + SESSIONS  # `rows` has several
    openings = [seen["opened"][start : start + size] for start in range(0, len(seen["opened"]), size)]
    orders = [tuple(dict.fromkeys(arm for arm, _ in opening)) for opening in openings]
    assert [set(order) for order in orders] == [set(ARMS)] * 3
    assert len(set(orders)) > 1  # drawn: two of three may be the same
    assert [[alive for _, alive in opening] for opening in openings] == [list(range(size))] * 3
    assert seen["left_open"] == 0


def test_every_opening_measures_every_shape_in_the_order_of_the_table(seen: Any) -> None:
    assert list(seen["runs"]) == list(SHAPES)
    for openings in seen["runs"].values():
        assert [list(runs) for runs in openings] == [list(ARMS)] * 3
        assert all(len(set(runs.values())) == 1 and min(runs.values()) >= 3 for runs in openings)


def test_sessions_share_threads_that_spin(seen: Any) -> None:
    before, after = seen["threads"]
    assert before == after
    assert seen["spinning"] > 5 * seen["asleep"]


def test_a_ratio_is_the_median_of_all_rounds_to_an_arm_chosen_for_all_openings() -> None:
    openings: list[Times] = [
        {Arm.BACKBONE: [4.0, 4.0, 4.0], Arm.APART: [3.0, 3.0, 3.0], Arm.MERGED: [6.0, 3.0, 12.0]},
        {Arm.BACKBONE: [2.0, 2.0], Arm.APART: [5.0, 3.0], Arm.MERGED: [6.0, 9.0]},
    ]
    rows = figures_of(openings)
    # The medians of 5 runs are 4, 3 and 6, though the second opening's fastest backbone was the first one.
    assert [(arm, row.ms, row.runs) for arm, row in rows.items()] == [
        (Arm.BACKBONE, 4000.0, 5),
        (Arm.APART, 3000.0, 5),
        (Arm.MERGED, 6000.0, 5),
    ]
    merged = rows[Arm.MERGED].ratios
    assert merged["backbone"] == Ratio(2.0, 2.0, 2.1)  # 2 1 4, 1.2 3
    assert merged["exported"] == Ratio(3.0, 1.5, 3.75)  # 1.5 0.75 3, 3 4.5
    assert merged["merged"] == Ratio(1.0, 1.0, 1.0)
    assert set(merged) == {"backbone", "exported", "merged"}
    assert rows[Arm.APART].ratios["exported"] == Ratio(0.75, 0.75, 2.0)  # 0.75 0.75 0.75, 2.5 1.5


@given(st.lists(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=9), min_size=1, max_size=5))
def test_a_ratio_lies_between_those_of_the_openings(runs: list[list[tuple[float, float]]]) -> None:
    openings: list[Times] = [
        {Arm.BACKBONE: [bare for bare, _ in of_opening], Arm.MERGED: [merged for _, merged in of_opening]}
        for of_opening in runs
    ]
    ratio = figures_of(openings)[Arm.MERGED].ratios["exported"]
    assert ratio.lowest <= ratio.median <= ratio.highest
    medians = [np.median([merged / bare for bare, merged in of_opening]) for of_opening in runs]
    assert (ratio.lowest, ratio.highest) == (min(medians), max(medians))


def test_the_table_has_a_column_for_each_arm_that_others_are_compared_with() -> None:
    openings: list[Times] = [{Arm.BACKBONE: [0.002], Arm.MERGED: [0.003]}, {Arm.BACKBONE: [0.002], Arm.MERGED: [0.004]}]
    title, _, merged = inference.as_text({"1x32": figures_of(openings)}).splitlines()
    assert title.split() == ["shape", "arm", "ms", "runs", "/", "backbone", "/", "exported", "/", "merged"]
    assert merged.split() == ["1x32", "merged", "3.5", "2", *["1.750", "1.500-2.000"] * 2, "1.000", "1.000-1.000"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--clock", "cpu", "--without", "SkipLayerNormFusion"], {"threads": 1, "without": ["SkipLayerNormFusion"]}),
        (["--threads", "3", "--openings", "1", "--precision", "int8"], {"threads": 3, "openings": 1}),
    ],
)
def test_the_command(tiny: dict[Precision, Models], options: list[str], said: dict[str, object]) -> None:
    directory = ["--directory", str(directory_of(tiny))]
    words = ["--size", "tiny", "--shapes", "1x4", "2x3", "--seconds", "0.1", "--json", *directory, *options]
    found = python("benchmarks.inference", *words)
    assert said.items() <= found.items()
    assert list(found["shapes"]) == ["1x4", "2x3"]
    for rows in found["shapes"].values():
        assert rows[Arm.BACKBONE]["ratios"]["exported"] == {"median": 1.0, "lowest": 1.0, "highest": 1.0}
        bases = {"backbone", "exported", "merged", "kernels", "bank"}
        assert {arm for arm, row in rows.items() if set(row["ratios"]) == bases} == {
            arm for arm in tiny[Precision.FP32].arms if arm.is_usual
        }


def test_the_command_makes_the_models_that_it_needs_before_sessions_share_threads() -> None:
    words = ["--size", "tiny", "--shapes", "2x3", "--seconds", "0.1", "--openings", "2", "--json"]
    found = python("benchmarks.inference", *words, "--arms", Arm.ROWS)
    assert set(found["shapes"]["2x3"]) == {Arm.ROWS}


@pytest.mark.parametrize(
    "words",
    [
        *(["--openings", openings] for openings in ("0", "-1", "many")),
        *(["--shapes", shape] for shape in ("8", "0x4", "4x-1", "1x2x3", "axb")),
    ],
)
def test_there_is_an_opening_and_a_shape(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["inference", *words])
    with pytest.raises(SystemExit) as stop:
        inference.main()
    assert stop.value.code == 2
    assert f"argument {words[0]}" in capsys.readouterr().err


def test_an_export_of_adapterhub_is_asked_for(tiny: dict[Precision, Models]) -> None:
    for arm in (Arm.ADAPTERHUB, Arm.ADAPTERHUB_FUSED):
        with pytest.raises(CompacterError, match=r"benchmarks\.adapterhub_export") as caught:
            tiny[Precision.FP32].path(arm)
        assert caught.value.code is ErrorCode.E704


def test_a_session_that_cannot_be_opened_is_said_with_its_arm(tiny: dict[Precision, Models]) -> None:
    """This process has no pool for sessions to share."""
    with pytest.raises(CompacterError, match="cannot be opened") as caught:
        open_session(tiny[Precision.FP32], Arm.MERGED)
    assert (caught.value.code, caught.value.value) == (ErrorCode.E704, Arm.MERGED)
