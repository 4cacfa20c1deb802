"""One training run from data files to an adapter on disk."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from transformers import EarlyStoppingCallback, TrainerCallback

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.methods import create_config
from compacter_core.pytorch.attach import attach
from compacter_core.pytorch.bindings import describe_backbone
from compacter_core.pytorch.distributed import is_first_process, wait_for_all
from compacter_core.pytorch.pooling import pool_before_head
from compacter_core.pytorch.pretrained import ParameterCounts, count_parameters, save_pretrained
from compacter_core.pytorch.training.backbone import Start, load_backbone, quiet_transformers
from compacter_core.pytorch.training.history import History, draw_curves, read_history
from compacter_core.pytorch.training.named_tasks import find_named_task
from compacter_core.pytorch.training.progress import ProgressBar
from compacter_core.pytorch.training.result import TrainResult, write_log
from compacter_core.pytorch.training.settings import AdapterRecipe, TrainSettings
from compacter_core.pytorch.training.sources import load_rows
from compacter_core.pytorch.training.tasks import STRATEGIES, Limits, Strategy
from compacter_core.pytorch.training.tensorboard import tensorboard_callback
from compacter_core.pytorch.training.trainer import TaskData, last_checkpoint, trainer_class

CURVE_FILE: Final = "training_curve.png"
_CHECKPOINTS: Final = "checkpoints"


def train(settings: TrainSettings, output: Path) -> TrainResult:
    """Trains on `settings.train`, keeps the epoch that is best on `settings.validation`, and saves it in `output`.

    `output` gets the hub profile of the adapter (for full fine-tuning: the model and its tokenizer),
    `training_log.json` and, where matplotlib is installed, `training_curve.png`. While training it also has the
    checkpoints. Of several processes (torchrun) each takes its part of every batch, and the first one writes.

    Raises:
        CompacterError: E801, E802 and E005 for the data, E005 and E803 for the backbone, E006 if `output` holds
            something and `settings.resume` is off, E001 and E2xx for the settings.
    """
    if is_first_process():
        _check_output(output, resume=settings.resume)
    callbacks = _callbacks(settings)
    strategy, rows = _read(settings)
    start = load_backbone(settings.backbone, strategy, revision=settings.revision, seed=settings.schedule.seed)
    limits = Limits(start.length_limit(settings.max_length), settings.max_target_length)
    encoded = {
        split: strategy.encode(part, start.tokenizer, limits, training=split == "train") for split, part in rows.items()
    }
    data = TaskData(strategy, encoded["train"], encoded["validation"], rows["validation"])
    counts = _prepare(start, strategy, settings)
    history, seconds = _fit(start, data, settings, output, callbacks)
    _save(start, settings, output)
    wait_for_all()  # before the checkpoints go that the others read
    result = TrainResult(
        output=output,
        history=history,
        counts=counts,
        labels=strategy.labels,
        rows={split: len(part) for split, part in encoded.items()},
        truncated=sum(part.truncated for part in encoded.values()),
        seconds=seconds,
    )
    if is_first_process():
        write_log(result, settings, max_length=limits.source)
        _draw(result, settings)
        shutil.rmtree(output / _CHECKPOINTS, ignore_errors=True)
    return result


def _read(settings: TrainSettings) -> tuple[Strategy[Any], dict[str, Sequence[Any]]]:
    """The strategy, and the checked rows of both splits."""
    named = None if settings.named is None else find_named_task(settings.named)
    sources = {"train": settings.train, "validation": settings.validation}
    raw = {split: load_rows(source, split=split) for split, source in sources.items()}
    if named is not None:
        raw = {split: named.with_names(rows) for split, rows in raw.items()}
    columns = settings.columns if named is None else named.columns
    strategy = STRATEGIES[settings.task].of(raw["train"], columns, named)
    return strategy, {split: strategy.parse(rows, sources[split]) for split, rows in raw.items()}


def _callbacks(settings: TrainSettings) -> list[TrainerCallback]:
    """What watches the run, for as far as it is wanted; made first, since packages may be missing."""
    patience = settings.schedule.patience
    found = [] if patience is None else [EarlyStoppingCallback(patience)]
    if settings.logging_dir is None or not is_first_process():
        return found
    return [*found, tensorboard_callback(settings.logging_dir)]


def _check_output(output: Path, *, resume: bool) -> None:
    if resume:
        last_checkpoint(output / _CHECKPOINTS)
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CompacterError(
            ErrorCode.E006,
            "the output directory is not empty",
            value=str(output),
            remedy="Choose another one, or resume the run that was interrupted in it.",
        )


def _prepare(start: Start, strategy: Strategy[Any], settings: TrainSettings) -> ParameterCounts:
    """Attaches the adapter of the recipe; full fine-tuning leaves the model as it is."""
    model = start.model
    recipe = settings.recipe
    if not isinstance(recipe, AdapterRecipe):
        pool_before_head(model, recipe.pooling)
        whole = sum(p.numel() for p in model.parameters())
        head = whole - sum(p.numel() for p in model.base_model.parameters()) if strategy.adds_head else 0
        return ParameterCounts(adapter=0, replaced=whole - head, head=head, backbone=whole - head)
    config = create_config(
        describe_backbone(model),
        method=recipe.method,
        name=recipe.name,
        reduction_factor=recipe.reduction_factor,
        phm_dim=recipe.phm_dim,
        phm_rank=recipe.phm_rank,
        non_linearity=recipe.non_linearity,
    )
    attach(
        model,
        config,
        generator=settings.schedule.seed,
        train_norms=recipe.train_norms,
        train_pooler=recipe.train_pooler or (start.fresh_pooler and recipe.pooling is None),
        pooling=recipe.pooling,
    )
    return count_parameters(model)


def _fit(
    start: Start, data: TaskData, settings: TrainSettings, output: Path, callbacks: Sequence[TrainerCallback]
) -> tuple[History, float]:
    """Trains `start.model` and leaves the best epoch's values in it."""
    checkpoints = output / _CHECKPOINTS
    recipe, goal = settings.recipe, data.strategy.goal
    trainer = trainer_class(recipe)(start.model, start.tokenizer, data, settings, checkpoints)
    for callback in callbacks:
        trainer.add_callback(callback)
    if settings.progress and is_first_process():
        trainer.add_callback(ProgressBar(f"train {recipe.label}", goal))
    begin = time.perf_counter()
    with quiet_transformers():
        trainer.train(resume_from_checkpoint=str(last_checkpoint(checkpoints)) if settings.resume else None)
    return read_history(trainer.state.log_history, goal), time.perf_counter() - begin


def _save(start: Start, settings: TrainSettings, output: Path) -> None:
    if isinstance(settings.recipe, AdapterRecipe):
        save_pretrained(start.model, output)
    elif is_first_process():
        with quiet_transformers():
            start.model.save_pretrained(output)
            start.tokenizer.save_pretrained(output)


def _draw(result: TrainResult, settings: TrainSettings) -> None:
    label = settings.recipe.label
    try:
        draw_curves({label: result.history}, result.output / CURVE_FILE, title=f"{label} on {settings.train}")
    except CompacterError as error:
        # The picture is a courtesy: without matplotlib the run still has its log.
        if error.code is not ErrorCode.E004:
            raise
