"""`compacter train` as a user types it."""

import json
from pathlib import Path

import pytest

from compacter_core.cli import train as command
from compacter_core.cli.main import build_parser, main
from compacter_core.methods import Method
from compacter_core.pytorch.training import FULL_FINE_TUNING, AdapterRecipe, FullRecipe, Schedule
from compacter_core.vocabulary import Activation

Data = tuple[str, str]


def arguments(backbone: Path, data: Data, output: Path) -> list[str]:
    words = ["train", "--backbone", str(backbone), "--train", data[0], "--validation", data[1], "-o", str(output)]
    return [*words, "--epochs", "1", "--reduction-factor", "4"]


def test_json_is_all_that_stdout_gets(
    backbone: Path, data: Data, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(backbone, data, tmp_path / "out"), "--json"]) == 0
    captured = capfd.readouterr()
    result = json.loads(captured.out)
    assert result["rows"] == {"train": 120, "validation": 60}
    assert result["labels"] == ["animals", "colours", "fruit"]
    assert "train compacter" in captured.err


def test_the_table_says_what_was_trained(
    backbone: Path, data: Data, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(backbone, data, tmp_path / "out"), "--no-progress"]) == 0
    captured = capfd.readouterr()
    for line in ("trained parameters", "share of the backbone", "validation accuracy", str(tmp_path / "out")):
        assert line in captured.out
    assert "step" not in captured.err


def test_bad_data_is_one_line_without_a_traceback(
    backbone: Path, data: Data, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "cat", "label": "x"}\n{"text": "dog"}\n')
    assert main(arguments(backbone, (str(bad), data[1]), tmp_path / "out")) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"compacter: E801: {bad}:2: ")
    assert captured.err.count("\n") == 1


def test_a_wrong_number_is_one_line(
    backbone: Path, data: Data, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(backbone, data, tmp_path / "out"), "--learning-rate", "nan"]) == 2
    assert capfd.readouterr().err.startswith("compacter: E001: learning_rate")


def test_every_option_reaches_the_settings() -> None:
    words = "train --backbone b --train t --validation v -o o --revision r --text-column a --pair-column b"
    words += " --label-column c --max-length 9 --method phm_adapter --name n --reduction-factor 8 --phm-dim 2"
    words += " --phm-rank 3 --non-linearity relu --freeze-norms --learning-rate 0.5 --head-learning-rate 0.25"
    words += " --epochs 7 --batch-size 5 --warmup 0.5 --decay cosine --weight-decay 0.1 --patience 2 --seed 11 --resume"
    settings = command._settings(build_parser().parse_args([*words.split(), "--no-progress"]))
    assert (settings.backbone, settings.train, settings.validation, settings.revision) == ("b", "t", "v", "r")
    assert (settings.columns.text, settings.columns.text_pair, settings.columns.label) == ("a", "b", "c")
    assert (settings.max_length, settings.resume, settings.progress) == (9, True, False)
    assert settings.recipe == AdapterRecipe(
        method=Method.PHM_ADAPTER,
        name="n",
        reduction_factor=8,
        phm_dim=2,
        phm_rank=3,
        non_linearity=Activation.RELU,
        train_norms=False,
        learning_rate=0.5,
        head_learning_rate=0.25,
    )
    schedule = settings.schedule
    assert (schedule.epochs, schedule.batch_size, schedule.warmup, schedule.decay.value) == (7, 5, 0.5, "cosine")
    assert (schedule.weight_decay, schedule.patience, schedule.seed) == (0.1, 2, 11)


@pytest.mark.parametrize("method", [*Method, FULL_FINE_TUNING])
def test_defaults_of_the_command_are_those_of_the_library(method: str) -> None:
    words = ["train", "--backbone", "b", "--train", "t", "--validation", "v", "-o", "o", "--method", method]
    settings = command._settings(build_parser().parse_args(words))
    assert settings.schedule == Schedule()
    expected = FullRecipe() if method == FULL_FINE_TUNING else AdapterRecipe(method=Method(method))
    assert settings.recipe == expected
