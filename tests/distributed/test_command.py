"""`compacter train` in two processes: the batches, the losses and the files of one process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from compacter_core.cli.main import main
from compacter_core.format.reader import load_adapter
from compacter_core.pytorch.training import trainer
from compacter_core.pytorch.training.trainer import CommonOrder
from tests.distributed.launch import accelerate_launch, torchrun
from tests.training.conftest import VOCABULARY, save_tokenizer
from tests.training.toy import toy_rows

ROWS, BATCH = 96, 8
OUTPUTS = {"adapter_config.json", "adapter_model.safetensors", "training_curve.png", "training_log.json"}
# Two layers of products over 32 and 64 numbers, sums of 16, softmax: fewer than 2^13 roundings of 2^-24 in a row.
ROUNDINGS = 2.0**13 * 2.0**-24


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a run on a backbone without dropout, whose random numbers would differ."""
    folder = tmp_path_factory.mktemp("data")
    save_tokenizer(folder, VOCABULARY, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ["input_ids", "attention_mask"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        BertModel(config).save_pretrained(folder)
    for seed, (name, count) in enumerate({"train": ROWS, "validation": 30}.items()):
        lines = [json.dumps(row) for row in toy_rows(count, seed)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    arguments = ["train", "--backbone", str(folder), "--train", str(folder / "train.jsonl")]
    arguments += ["--validation", str(folder / "validation.jsonl"), "--epochs", "2", "--batch-size", str(BATCH)]
    return [*arguments, "--reduction-factor", "4", "--no-progress", "--json"]


@pytest.mark.parametrize("launch", [torchrun, accelerate_launch])
def test_two_processes_do_the_work_of_one(
    launch: Callable[..., str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    printed = launch("compacter_core", *words, "-o", str(tmp_path / "two"))
    two: dict[str, Any] = json.loads(printed)
    # One process draws its order from the common generator, which several could not keep in step.
    monkeypatch.setattr(trainer, "LengthGroupedSampler", lambda size, lengths: CommonOrder(size, lengths, 0))
    assert main([*words, "-o", str(tmp_path / "one")]) == 0
    one: dict[str, Any] = json.loads(capfd.readouterr().out)
    for run in ("one", "two"):
        assert {path.name for path in (tmp_path / run).iterdir()} == OUTPUTS
    assert two["rows"] == one["rows"]
    assert load_adapter(tmp_path / "two").config == load_adapter(tmp_path / "one").config
    steps = [point["step"] for point in two["history"]["evaluations"]]
    assert steps == [point["step"] for point in one["history"]["evaluations"]] == [ROWS // BATCH, 2 * ROWS // BATCH]
    # Before the first step the models are the same, and so are the batches: their losses differ by rounding alone.
    first = [run["history"]["losses"][0]["loss"] for run in (one, two)]
    assert first[0] == pytest.approx(first[1], rel=ROUNDINGS, abs=0)
    assert two["history"]["evaluations"][-1]["loss"] < two["history"]["evaluations"][0]["loss"]


def test_a_batch_that_has_no_equal_parts_is_refused(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = [word if word != str(BATCH) else "7" for word in words]
    assert main([*words, "-o", str(tmp_path / "out")]) == 2
    error = json.loads(capfd.readouterr().err)["error"]
    assert (error["code"], error["value"], error["expected"]) == ("E001", "7", "a multiple of the 2 processes")


def test_the_common_order_is_a_matter_of_seed_and_epoch() -> None:
    lengths = [length % 7 for length in range(40)]
    sampler = CommonOrder(4, lengths, 3)
    epochs = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    again = CommonOrder(4, lengths, 3)
    torch.rand(5)
    again.set_epoch(1)
    assert list(again) == epochs[1]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == list(range(40))
    assert list(CommonOrder(4, lengths, 4)) != epochs[0]
