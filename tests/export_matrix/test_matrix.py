"""A thin slice of the matrix, and whether its parts notice what is wrong."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from compacter_core.adapter import Adapter
from compacter_exporters.choices import MODEL_FILE
from compacter_exporters.graft import graft
from compacter_exporters.graph_check import RELATIVE_LIMIT
from tests.export_matrix.__main__ import main
from tests.export_matrix.cells import Cell, Outcome
from tests.export_matrix.linkages import BACKBONE, LINKAGES, Linked
from tests.export_matrix.measuring import measure
from tests.export_matrix.precisions import PRECISIONS, Precision
from tests.export_matrix.results import read_results, write_results
from tests.exporters_backbone.backends import BACKENDS

EXPORTER = str(BACKENDS[0])
MERGED = "merged fold"
MEASURED = ("fp32", "int8")
DONE = Outcome(within=True, ratio=0.25, error=1e-6, difference=1e-6, agreement=1.0, fused=9, own=9)


@cache
def outcomes() -> dict[tuple[str, str], Outcome]:
    """The slice, by precision and linkage."""
    cells = Cell.all(["bert"], [EXPORTER], MEASURED, [BACKBONE, MERGED, "swappable", "bank"])
    return {(cell.precision, cell.linkage): outcome for cell, outcome in measure(cells)}


@pytest.mark.parametrize("linkage", [MERGED, "swappable", "bank"])
@pytest.mark.parametrize("precision", MEASURED)
def test_adapters_are_within_their_bounds(precision: str, linkage: str) -> None:
    found, bare = outcomes()[precision, linkage], outcomes()[precision, BACKBONE]
    assert found.why is None
    assert found.within
    # A bank with norms in each row has none that ONNX Runtime could fuse with the sum before it; how many it fuses
    # otherwise, up to four, is the exporter's doing.
    unfused = found.lost.get("SkipLayerNormalization", 0)
    assert unfused <= (4 if linkage == "bank" else 0)
    # The head that an adapter brings stays in floating point.
    lost = {"DynamicQuantizeMatMul": 1} if precision == "int8" else {}
    assert {name: count for name, count in found.lost.items() if name != "SkipLayerNormalization"} == lost
    assert found.own == bare.fused > 0
    if precision == "fp32":
        assert found.difference is not None
        assert found.difference <= RELATIVE_LIMIT


def test_quantising_is_seen() -> None:
    exact, quantised = outcomes()["fp32", BACKBONE].difference, outcomes()["int8", BACKBONE].difference
    assert exact is not None
    assert quantised is not None
    assert exact <= RELATIVE_LIMIT < quantised


def test_another_adapter_is_outside_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graphs: Path, adapter: Adapter, folder: Path) -> None:
        tensors = {name: array * 1.001 if "down" in name else array for name, array in adapter.tensors.items()}
        graft(graphs / MODEL_FILE, replace(adapter, tensors=tensors), folder / MODEL_FILE)

    def raises(graphs: Path, adapter: Adapter, folder: Path) -> None:
        raise ValueError("no")

    monkeypatch.setitem(LINKAGES, MERGED, Linked(wrong))
    monkeypatch.setitem(LINKAGES, "swappable", Linked(raises))
    cells = Cell.all(["distilbert"], [EXPORTER], ["fp32"], [MERGED, "swappable"])
    different, failed = (outcome for _, outcome in measure(cells))
    assert different.within is False
    assert different.is_wrong
    assert (failed.failed, failed.why, failed.is_wrong) == ("ValueError", "no", True)


@pytest.mark.parametrize("is_theirs", [True, False])
def test_what_others_break_is_no_fault_of_this_project(monkeypatch: pytest.MonkeyPatch, is_theirs: bool) -> None:
    def raises(source: Path, target: Path) -> None:
        raise AssertionError

    broken = Precision(before=raises) if is_theirs else Precision(after=raises)
    monkeypatch.setitem(PRECISIONS, "fp16", broken)
    ((_, found),) = measure(Cell.all(["distilbert"], [EXPORTER], ["fp16"], [MERGED]))
    assert (found.failed, found.why) == ("AssertionError", "in raises")
    assert (found.is_theirs, found.is_wrong) == (is_theirs, not is_theirs)


def test_a_run_goes_on_where_another_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = dict.fromkeys(Cell.all(["bert"], [EXPORTER], ["fp32"], LINKAGES), DONE)
    write_results(held, tmp_path / "results.json")
    before = (tmp_path / "results.json").read_bytes()
    only = ["--only", "backbone=bert", "--only", f"exporter={EXPORTER}", "--only", "precision=fp32"]
    assert main([*only, "--json", str(tmp_path / "results.json")]) == 0
    assert (tmp_path / "results.json").read_bytes() == before
    assert f"| bert | {EXPORTER} |" in capsys.readouterr().out


def test_files_are_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (Cell("bert", exporter, "fp32", MERGED) for exporter in ("one", "two"))
    write_results({first: DONE, second: DONE}, tmp_path / "a.json")
    write_results({second: replace(DONE, within=False, ratio=3.0)}, tmp_path / "b.json")
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert main(["--merge", files[0]]) == 0
    assert main(["--merge", *files]) == 1
    assert "OUTSIDE: 3.00" in capsys.readouterr().out
    assert read_results(map(Path, files))[first] == DONE


def test_results_are_json_by_cell(tmp_path: Path) -> None:
    write_results({Cell("bert", "one", "fp32", MERGED): DONE}, tmp_path / "results.json")
    held = json.loads((tmp_path / "results.json").read_text())
    assert held["bert/one/fp32/merged fold"]["ratio"] == 0.25


def test_results_of_earlier_times_are_read(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"bert/one/fp32/merged fold": {"within": true, "ratio": 0.25, "own": 9}}')
    (found,) = read_results([tmp_path / "results.json"]).values()
    assert (found.within, found.ratio, found.own, found.accuracy, found.is_theirs) == (True, 0.25, 9, None, False)


@pytest.mark.parametrize("only", ["colour=red", "backbone=none", "backbone"])
def test_unknown_values_are_refused(only: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--only", only])
    assert stopped.value.code == 2
    assert "no such" in capsys.readouterr().err
