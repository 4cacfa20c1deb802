"""`compacter run` on models that write, made without PyTorch."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compacter_core.cli.main import main
from compacter_runtime import Generator
from tests.support.served import write_served
from tests.support.writing import write_decoder, write_encoder_decoder

TEXTS = ["a b", "c", "d e f"]
WRITERS = {"decoder": write_decoder, "both": write_encoder_decoder}

Shown = Callable[[], Any]


@pytest.fixture(params=WRITERS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(WRITERS[request.param](tmp_path / "model", {"decoder_start_token_id": 1, "eos_token_id": 2}))


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    return lambda: json.loads(capsys.readouterr().out)


def test_texts_to_lines(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", model, *TEXTS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == Generator(model).write(TEXTS)
    assert len({*lines}) > 1


def test_texts_to_json(model: str, shown: Shown) -> None:
    assert main(["run", model, *TEXTS, "--json", "--max-new-tokens", "3", "--threads", "1", "--provider", "cpu"]) == 0
    result = shown()
    expected = Generator(model).written(TEXTS, max_new_tokens=3)
    assert result["texts"] == [
        {"text": text, "written": one.text, "tokens": [*one.tokens]} for text, one in zip(TEXTS, expected, strict=True)
    ]
    assert max(len(row["tokens"]) for row in result["texts"]) == 3
    assert (result["rows"], result["providers"]) == (3, ["CPUExecutionProvider"])


def test_every_batch_is_written(model: str, shown: Shown) -> None:
    """Rows of one length: this tokenizer's padding counts."""
    texts = [f"{first} {second}" for first in "abcde" for second in "pq"]
    results = []
    for size in ("1", "3", "32"):
        assert main(["run", model, *texts, "--json", "--batch-size", size]) == 0
        results.append(shown())
    assert [row["text"] for row in results[0]["texts"]] == texts
    assert results[0] == results[1] == results[2]


def test_files_and_standard_input(model: str, tmp_path: Path, shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": text, "label": "x"}) for text in TEXTS))
    output = tmp_path / "out" / "texts.jsonl"
    assert main(["run", model, "--input", str(tmp_path / "rows.jsonl"), "--output", str(output), "--json"]) == 0
    assert shown() == {"output": str(output), "rows": 3, "providers": ["CPUExecutionProvider"]}
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS) + "\n"))
    assert main(["run", model, "--json"]) == 0
    assert [json.loads(line) for line in output.read_text().splitlines()] == shown()["texts"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--max-new-tokens", "0"], "E001"),
        (["--batch-size", "0"], "E001"),
        (["--arrays", "out.npz"], "E001"),
        (["--adapter", "mine"], "E703"),
        (["--provider", "no-such"], "E701"),
    ],
)
def test_refusals(model: str, capsys: pytest.CaptureFixture[str], options: list[str], code: str) -> None:
    assert main(["run", model, "a", *options, "--json"]) == 2
    error = capsys.readouterr()
    assert error.out == ""
    assert json.loads(error.err)["error"]["code"] == code


def test_a_model_that_answers_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = str(write_served(tmp_path / "served").parent)
    assert main(["run", served, "a", "--max-new-tokens", "3", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "E001"
