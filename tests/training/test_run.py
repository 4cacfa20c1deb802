"""A run from files to an adapter: it learns, keeps the best epoch, and can be interrupted and resumed."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.methods import Method
from compacter_core.pytorch import from_pretrained
from compacter_core.pytorch.training import (
    AdapterRecipe,
    FullRecipe,
    Schedule,
    Task,
    TrainSettings,
    read_file,
    train,
)
from compacter_core.pytorch.training.examples import Columns
from compacter_core.pytorch.training.progress import ProgressBar
from compacter_core.pytorch.training.trainer import last_checkpoint
from tests.support.models import TINY_METHODS
from tests.training.toy import CLASSES

ADAPTER = "adapter_model.safetensors"


def make_settings(backbone: Path, data: tuple[str, str], *, epochs: int = 6, seed: int = 0) -> TrainSettings:
    """A run of a few seconds."""
    return TrainSettings(
        backbone=str(backbone),
        train=data[0],
        validation=data[1],
        recipe=AdapterRecipe(learning_rate=2e-2, reduction_factor=4),
        schedule=Schedule(epochs=epochs, batch_size=8, seed=seed),
        progress=False,
    )


def test_learns_and_saves_the_best_epoch(backbone: Path, data: tuple[str, str], tmp_path: Path) -> None:
    result = train(make_settings(backbone, data), tmp_path / "out")
    assert result.best.accuracy >= 0.9
    assert sorted(path.name for path in result.output.iterdir()) == [
        "adapter_config.json",
        ADAPTER,
        "training_curve.png",
        "training_log.json",
    ]
    log = json.loads((result.output / "training_log.json").read_text())
    assert log["best"]["accuracy"] == max(one["accuracy"] for one in log["history"]["evaluations"])
    assert accuracy(backbone, result.output, data[1]) == result.best.accuracy


def accuracy(backbone: Path, adapter: Path, validation: str) -> float:
    """Accuracy of the saved adapter on a backbone loaded afresh."""
    model = AutoModelForSequenceClassification.from_pretrained(backbone, num_labels=len(CLASSES))
    from_pretrained(model.eval(), adapter)
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    rows = read_file(Path(validation), Columns())
    with torch.no_grad():
        batch = tokenizer([row.text for row in rows], padding=True, return_tensors="pt")
        answers = model(**batch).logits.argmax(-1).tolist()
    right: int = sum(model.config.id2label[answer] == row.label for answer, row in zip(answers, rows, strict=True))
    return right / len(rows)


def test_the_seed_decides_everything(backbone: Path, data: tuple[str, str], tmp_path: Path) -> None:
    contents = []
    for number, seed in enumerate((0, 0, 1)):
        result = train(make_settings(backbone, data, epochs=1, seed=seed), tmp_path / str(number))
        contents.append((result.output / ADAPTER).read_bytes())
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_a_resumed_run_ends_like_an_uninterrupted_one(
    backbone: Path, data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(backbone, data, epochs=3)
    whole = train(settings, tmp_path / "whole")

    def interrupt(self: object, args: object, state: object, control: object, **_: object) -> None:
        if getattr(state, "epoch", 0) > 1.5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "on_step_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(replace(settings, progress=True), tmp_path / "parts")
    resumed = train(replace(settings, resume=True), tmp_path / "parts")
    assert (resumed.output / ADAPTER).read_bytes() == (whole.output / ADAPTER).read_bytes()
    assert resumed.history.evaluations == whole.history.evaluations


def test_a_killed_run_resumes_to_the_same_bits(t5_backbone: Path, data: tuple[str, str], tmp_path: Path) -> None:
    """Two epochs at once against two with a SIGKILL in the second, each in processes of their own."""
    words = [sys.executable, "-m", "compacter_core", "train", "--backbone", str(t5_backbone), "--task", "seq2seq"]
    words += ["--train", data[0], "--validation", data[1], "--reduction-factor", "4", "--batch-size", "8"]
    words += ["--epochs", "2", "--no-progress", "-o"]
    subprocess.run([*words, str(tmp_path / "whole")], check=True, capture_output=True)
    parts = tmp_path / "parts"
    with subprocess.Popen([*words, str(parts)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not list(parts.glob("checkpoints/checkpoint-*/trainer_state.json")):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (parts / ADAPTER).exists()
    subprocess.run([*words, str(parts), "--resume"], check=True, capture_output=True)
    assert (parts / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()
    logs = [json.loads((path / "training_log.json").read_text()) for path in (tmp_path / "whole", parts)]
    assert logs[0]["history"] == logs[1]["history"]


def test_a_checkpoint_cut_short_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((5, "{}"), (10, '{"epoch": '), (15, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path).name == "checkpoint-5"


def test_checkpoints_are_adapters(
    backbone: Path, data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compacter_core.pytorch.training.run.shutil.rmtree", lambda *_, **__: None)
    result = train(make_settings(backbone, data, epochs=1), tmp_path / "out")
    (checkpoint,) = (result.output / "checkpoints").glob("checkpoint-*")
    names = {path.name for path in checkpoint.iterdir()}
    assert ADAPTER in names
    assert not names & {"model.safetensors", "pytorch_model.bin", "training_args.bin"}
    # The adapter, and two moments of what trains.
    assert sum(path.stat().st_size for path in checkpoint.iterdir()) < (backbone / "model.safetensors").stat().st_size
    assert load_adapter(checkpoint).config == load_adapter(result.output).config


def test_patience_stops_a_run_that_does_not_improve(backbone: Path, data: tuple[str, str], tmp_path: Path) -> None:
    settings = make_settings(backbone, data)
    idle = replace(settings.recipe, learning_rate=1e-12)
    schedule = replace(settings.schedule, patience=1)
    result = train(replace(settings, recipe=idle, schedule=schedule), tmp_path / "out")
    assert [one.epoch for one in result.history.evaluations] == [1, 2]
    assert result.best.epoch == 1


@pytest.mark.parametrize("method", TINY_METHODS)
def test_every_method_trains(method: Method, backbone: Path, data: tuple[str, str], tmp_path: Path) -> None:
    settings = make_settings(backbone, data, epochs=1)
    result = train(replace(settings, recipe=AdapterRecipe(method=method, reduction_factor=4)), tmp_path / "out")
    config = load_adapter(result.output).config
    assert config.method == method.value
    assert config.head is not None
    assert config.head.labels == tuple(sorted(CLASSES))


def test_full_fine_tuning_trains_and_saves_the_model(backbone: Path, data: tuple[str, str], tmp_path: Path) -> None:
    settings = replace(make_settings(backbone, data), recipe=FullRecipe(learning_rate=2e-3))
    result = train(settings, tmp_path / "out")
    assert result.best.accuracy >= 0.9
    assert result.counts.share == 1.0
    model = AutoModelForSequenceClassification.from_pretrained(result.output)
    assert model.config.id2label == dict(enumerate(sorted(CLASSES)))


def test_frozen_norms_are_not_saved(backbone: Path, data: tuple[str, str], tmp_path: Path) -> None:
    settings = make_settings(backbone, data, epochs=1)
    for train_norms in (True, False):
        recipe = AdapterRecipe(reduction_factor=4, train_norms=train_norms)
        result = train(replace(settings, recipe=recipe), tmp_path / str(train_norms))
        assert bool(load_adapter(result.output).config.overrides) is train_norms
        assert (result.counts.replaced > 0) is train_norms


def test_long_rows_are_cut_and_counted(backbone: Path, data: tuple[str, str], tmp_path: Path) -> None:
    settings = make_settings(backbone, data, epochs=1)
    result = train(replace(settings, max_length=7), tmp_path / "out")
    long = sum(len(row.text.split()) > 5 for path in data for row in read_file(Path(path), Columns()))
    assert result.truncated == long > 0


def test_an_occupied_output_is_refused_before_any_work(backbone: Path, data: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(CompacterError) as caught:
        train(make_settings(backbone, data), tmp_path)
    assert caught.value.code is ErrorCode.E006
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_resuming_needs_a_checkpoint(backbone: Path, data: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(CompacterError) as caught:
        train(replace(make_settings(backbone, data), resume=True), tmp_path)
    assert caught.value.code is ErrorCode.E005


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("empty", [0, 1])
def test_data_without_rows_are_refused(
    task: Task, empty: int, backbone: Path, data: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "empty.csv").write_text("text,label\n")
    sources = [str(tmp_path / "empty.csv") if part == empty else data[part] for part in (0, 1)]
    settings = replace(make_settings(backbone, (sources[0], sources[1])), task=task)
    with pytest.raises(CompacterError, match=r"empty\.csv: no rows") as caught:
        train(settings, tmp_path / "out")
    assert caught.value.code is ErrorCode.E801


def test_an_unknown_validation_label_is_found_before_training(
    backbone: Path, data: tuple[str, str], tmp_path: Path
) -> None:
    validation = tmp_path / "validation.csv"
    validation.write_text("text,label\ncat dog,animals\nred,colors\n")
    with pytest.raises(CompacterError, match=r"validation\.csv:3") as caught:
        train(make_settings(backbone, (data[0], str(validation))), tmp_path / "out")
    assert caught.value.code is ErrorCode.E802
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("length", [2, 33])
def test_a_maximum_length_outside_the_model_is_refused(
    length: int, backbone: Path, data: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(CompacterError) as caught:
        train(replace(make_settings(backbone, data), max_length=length), tmp_path / "out")
    assert caught.value.code is ErrorCode.E001


def test_a_missing_backbone_is_one_clear_error(data: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(CompacterError) as caught:
        train(make_settings(tmp_path / "nothing", data), tmp_path / "out")
    assert caught.value.code is ErrorCode.E005


def test_a_checkpoint_without_a_pooler_gets_one_with_the_head(
    backbone: Path, data: tuple[str, str], tmp_path: Path
) -> None:
    """Its random pooler would be another at each load, so it has to be in the adapter file."""
    weights = load_file(backbone / "model.safetensors")
    bare = tmp_path / "bare"
    shutil.copytree(backbone, bare)
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    assert len(kept) == len(weights) - 2
    save_file(kept, bare / "model.safetensors", metadata={"format": "pt"})
    result = train(make_settings(bare, data, epochs=1), tmp_path / "out")
    head = load_adapter(result.output).config.head
    assert head is not None
    assert head.layers == ("bert.pooler.dense", "classifier")
    assert accuracy(bare, result.output, data[1]) == result.best.accuracy
