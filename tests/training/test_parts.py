"""Optimiser groups, encoding, settings, curve, log."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.methods import create_config
from compacter_core.pytorch import attach, describe_backbone
from compacter_core.pytorch.training import (
    AdapterRecipe,
    Columns,
    Evaluation,
    Example,
    FullRecipe,
    History,
    Labels,
    LossPoint,
    Metric,
    Schedule,
    draw_curves,
    load_result,
)
from compacter_core.pytorch.training.backbone import load_backbone
from compacter_core.pytorch.training.optimiser import make_optimiser
from compacter_core.pytorch.training.tasks import Limits
from compacter_core.pytorch.training.tasks.classification import Classification
from tests.support.models import tiny_model

XY = Classification(Columns(), Labels(("x", "y")))
HISTORY = History(
    losses=(LossPoint(0.5, 1, 1.0, 0.1),),
    evaluations=(
        Evaluation(1, 2, 0.9, {"accuracy": 0.5}),
        Evaluation(2, 4, 0.8, {"accuracy": 0.75}),
        Evaluation(3, 6, 0.7, {"accuracy": 0.75}),
    ),
)


def test_everything_that_trains_is_in_one_group_with_its_rate() -> None:
    model = tiny_model("bert")
    attached = attach(model, create_config(describe_backbone(model), reduction_factor=4), train_pooler=True)
    recipe = AdapterRecipe(learning_rate=0.5, head_learning_rate=0.25, pretrained_learning_rate=0.75)
    groups = make_optimiser(model, recipe, Schedule(weight_decay=0.125)).param_groups
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in attached.trainable_parameters())
    rates = {id(parameter): 0.25 for parameter in model.classifier.parameters()}
    rates |= {id(parameter): 0.75 for parameter in model.bert.parameters()}
    for group in groups:
        for parameter in group["params"]:
            assert group["lr"] == rates.get(id(parameter), 0.5)
            assert group["weight_decay"] == (0.125 if parameter.ndim > 1 else 0)


def test_full_fine_tuning_optimises_every_parameter() -> None:
    model = tiny_model("distilbert")
    groups = make_optimiser(model, FullRecipe(learning_rate=0.5), Schedule()).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert {group["lr"] for group in groups} == {0.5}


def test_pairs_are_encoded_as_pairs(backbone: Path) -> None:
    rows = [Example("cat", "red", "x", "here:1"), Example("dog dog dog", "blue", "y", "here:2")]
    start = load_backbone(str(backbone), XY, revision=None, seed=0)
    data = XY.encode(rows, start.tokenizer, Limits(6, 1), training=True)
    assert data.lengths == (5, 6)
    assert data.truncated == 1
    assert data[0]["token_type_ids"] == [0, 0, 0, 1, 1]
    assert [row["labels"] for row in data.rows] == [0, 1]


def test_the_seed_decides_the_head(backbone: Path) -> None:
    heads = [load_backbone(str(backbone), XY, revision=None, seed=seed).model for seed in (1, 1, 2)]
    weights = [model.classifier.weight.detach().numpy() for model in heads]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": -1},
        {"warmup": 1.0},
        {"warmup_steps": -1},
        {"weight_decay": float("nan")},
        {"max_grad_norm": float("inf")},
        {"patience": 0},
        {"seed": -1},
    ],
)
def test_schedules_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(CompacterError) as caught:
        replace(Schedule(), **wrong)  # type: ignore[arg-type]  # the parameter table holds floats for all fields
    assert caught.value.code is ErrorCode.E001


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("nan"), float("inf")])
def test_learning_rates_out_of_range_are_refused(rate: float) -> None:
    for make in (
        lambda: AdapterRecipe(learning_rate=rate),
        lambda: AdapterRecipe(head_learning_rate=rate),
        lambda: FullRecipe(learning_rate=rate),
    ):
        with pytest.raises(CompacterError) as caught:
            make()
        assert caught.value.code is ErrorCode.E001


def test_the_best_epoch_is_the_first_with_the_best_score() -> None:
    assert HISTORY.best.epoch == 2
    errors = (3.0, 1.0, 1.0)
    scored = [Evaluation(epoch, epoch, 0.5, {"perplexity": error}) for epoch, error in enumerate(errors, start=1)]
    assert History((), tuple(scored), Metric.PERPLEXITY).best.epoch == 2


def test_the_curve_is_a_picture(tmp_path: Path) -> None:
    draw_curves({"one": HISTORY, "two": HISTORY}, tmp_path / "curve.png", title="title")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"history": 1}'])
def test_a_directory_without_a_log_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "training_log.json").write_text(content)
    with pytest.raises(CompacterError) as caught:
        load_result(tmp_path)
    assert caught.value.code is ErrorCode.E005
