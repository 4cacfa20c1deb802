"""`compacter train` as a user types it."""

import json
from pathlib import Path

import pytest

from compacter_core.cli import train as command
from compacter_core.cli.main import build_parser, main
from compacter_core.methods import Method
from compacter_core.pytorch.training import (
    FULL_FINE_TUNING,
    PRESETS,
    AdapterRecipe,
    FullRecipe,
    Preset,
    Schedule,
    Task,
    TrainSettings,
)
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


WORDS = ["train", "--backbone", "b", "--train", "t", "--validation", "v", "-o", "o"]


def settings_of(*options: str) -> TrainSettings:
    return command._settings(build_parser().parse_args([*WORDS, *options]))


def test_options_of_other_tasks_reach_the_settings() -> None:
    settings = settings_of(
        *("--task", "token-classification", "--tokens-column", "a", "--tags-column", "b", "--target-column", "c"),
        *("--max-target-length", "9", "--num-beams", "3", "--logging-dir", "logs", "--warmup-steps", "7"),
    )
    assert settings.task is Task.TOKEN_CLASSIFICATION
    assert (settings.columns.tokens, settings.columns.tags, settings.columns.target) == ("a", "b", "c")
    assert (settings.max_target_length, settings.num_beams, settings.logging_dir) == (9, 3, "logs")
    assert settings.schedule.warmup_steps == 7


@pytest.mark.parametrize("task", list(Task))
def test_every_kind_of_task_has_its_word(task: Task) -> None:
    assert settings_of("--task", task.value).task is task


def test_the_papers_preset_is_the_papers() -> None:
    settings = settings_of("--preset", "paper", "--method", "compacter++")
    assert settings.recipe == AdapterRecipe(
        method=Method.COMPACTER_PLUS_PLUS,
        reduction_factor=32,
        phm_dim=4,
        phm_rank=1,
        non_linearity=Activation.GELU_NEW,
        train_norms=True,
        learning_rate=3e-3,
    )
    schedule = settings.schedule
    assert (schedule.epochs, schedule.batch_size, schedule.warmup_steps) == (20, 100, 500)
    assert schedule.rising_steps(10_000) == 500


def test_what_is_typed_goes_before_the_preset() -> None:
    settings = settings_of("--preset", "paper", "--batch-size", "8", "--phm-dim", "8", "--warmup", "0.25")
    assert isinstance(settings.recipe, AdapterRecipe)
    assert (settings.recipe.phm_dim, settings.recipe.reduction_factor) == (8, 32)
    assert (settings.schedule.batch_size, settings.schedule.epochs) == (8, 20)
    assert settings.schedule.rising_steps(1000) == 250


@pytest.mark.parametrize("preset", list(Preset))
def test_every_preset_has_its_word(preset: Preset) -> None:
    assert settings_of("--preset", preset.value).schedule == PRESETS[preset][1]


@pytest.mark.parametrize(
    ("options", "task", "sources"),
    [
        (("--dataset", "glue/mrpc"), Task.CLASSIFICATION, ("nyu-mll/glue:mrpc@train", "nyu-mll/glue:mrpc@validation")),
        (("--task-name", "stsb"), Task.REGRESSION, ("nyu-mll/glue:stsb@train", "nyu-mll/glue:stsb@validation")),
        (
            ("--task-name", "mnli", "--task", "seq2seq"),
            Task.SEQ2SEQ,
            ("nyu-mll/glue:mnli@train", "nyu-mll/glue:mnli@validation_matched"),
        ),
        (
            ("--dataset", "super_glue/copa", "--train", "a.jsonl", "--validation", "b.csv"),
            Task.SEQ2SEQ,
            ("a.jsonl", "b.csv"),
        ),
    ],
)
def test_a_published_task_brings_its_rows_and_its_kind(
    options: tuple[str, ...], task: Task, sources: tuple[str, str]
) -> None:
    words = ["train", "--backbone", "b", "-o", "o", *options]
    settings = command._settings(build_parser().parse_args(words))
    assert settings.task is task
    assert (settings.train, settings.validation) == sources


def test_a_run_without_data_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--backbone", "b", "-o", "o"]) == 2
    assert capfd.readouterr().err.startswith("compacter: E001: no data")


def test_a_glue_task_is_trained_from_files_as_text_to_text(
    t5_backbone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cola.csv"
    path.write_text("sentence,label\n" + "cat red,1\ndog blue,0\n" * 8)
    words = ["train", "--backbone", str(t5_backbone), "--dataset", "glue/cola", "--task", "seq2seq"]
    words += ["--train", str(path), "--validation", str(path), "-o", str(tmp_path / "out"), "--epochs", "1"]
    assert main([*words, "--reduction-factor", "4", "--no-progress", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["history"]["goal"] == "matthews"
    assert set(result["best"]) == {"epoch", "step", "loss", "matthews"}


@pytest.mark.parametrize("method", [*Method, FULL_FINE_TUNING])
def test_defaults_of_the_command_are_those_of_the_library(method: str) -> None:
    words = ["train", "--backbone", "b", "--train", "t", "--validation", "v", "-o", "o", "--method", method]
    settings = command._settings(build_parser().parse_args(words))
    assert settings.schedule == Schedule()
    expected = FullRecipe() if method == FULL_FINE_TUNING else AdapterRecipe(method=Method(method))
    assert settings.recipe == expected
