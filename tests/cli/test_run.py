"""`compacter run` on a model made without PyTorch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compacter_core.cli.main import main
from tests.support.served import expected_logits, write_served

LABELS = ("north", "east", "south")
TEXTS = ["a b", "c", "d e f"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_served(tmp_path / "served", labels=LABELS).parent)


def _right() -> list[str]:
    return [LABELS[i] for i in expected_logits(TEXTS).argmax(axis=1)]


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_texts_to_lines(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", model, *TEXTS]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(label, text) for label, _, text in lines] == list(zip(_right(), TEXTS, strict=True))


def test_texts_to_json(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", model, *TEXTS, "--json", "--batch-size", "2", "--threads", "1", "--provider", "cpu"]) == 0
    result = _json(capsys)
    assert [row["label"] for row in result["predictions"]] == _right()
    assert result["providers"] == ["CPUExecutionProvider"]
    assert "accuracy" not in result


@pytest.mark.parametrize("before", range(len(TEXTS) + 1))
def test_texts_stand_on_either_side_of_options(model: str, before: int, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--batch-size", "2", "--json"]
    assert main(["run", model, *TEXTS[:before], *options, *TEXTS[before:]]) == 0
    result = _json(capsys)
    assert [row["text"] for row in result["predictions"]] == TEXTS
    assert [row["label"] for row in result["predictions"]] == _right()


def test_a_text_that_looks_like_an_option(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", model, "--json", "--", "--a", "b"]) == 0
    assert [row["text"] for row in _json(capsys)["predictions"]] == ["--a", "b"]


def test_an_unknown_option_is_refused(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["run", model, "--nope", "a"])
    assert refusal.value.code == 2
    assert "--nope" in capsys.readouterr().err


def test_labelled_rows_give_the_accuracy(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [*_right()[:2], "nowhere"]
    rows = [json.dumps({"text": text, "label": label}) for text, label in zip(TEXTS, labels, strict=True)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    output = tmp_path / "out" / "predictions.jsonl"
    assert main(["run", model, "--input", str(tmp_path / "rows.jsonl"), "--output", str(output)]) == 0
    assert "accuracy 0.6667 (2 of 3)" in capsys.readouterr().out
    assert [json.loads(line)["label"] for line in output.read_text().splitlines()] == _right()


def test_pairs(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.csv").write_text("text,text_pair\na b,c\n")
    assert main(["run", model, "--input", str(tmp_path / "rows.csv"), "--json"]) == 0
    (row,) = _json(capsys)["predictions"]
    assert row["index"] == expected_logits([("a b", "c")])[0].argmax()
    assert row["text_pair"] == "c"


def test_arrays(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", model, *TEXTS, "--arrays", str(tmp_path / "out.npz"), "--json"]) == 0
    assert _json(capsys)["shapes"] == {"logits": [3, 3], "hidden": [3, 5, 3]}
    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_array_equal(arrays["logits"], expected_logits(TEXTS))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--provider", "no-such"], "E701"),
        (["--batch-size", "0"], "E001"),
        (["--threads", "0"], "E001"),
        (["--input", "x.txt"], "E703"),
    ],
)
def test_refusals(model: str, capsys: pytest.CaptureFixture[str], options: list[str], code: str) -> None:
    assert main(["run", model, "a", *options, "--json"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert json.loads(shown.err)["error"]["code"] == code
