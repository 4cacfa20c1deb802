"""One training run from data files to an adapter on disk."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from transformers import EarlyStoppingCallback

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.methods import create_config
from compacter_core.pytorch.attach import attach
from compacter_core.pytorch.bindings import describe_backbone
from compacter_core.pytorch.pretrained import ParameterCounts, count_parameters, save_pretrained
from compacter_core.pytorch.training.backbone import Start, load_backbone, quiet_transformers
from compacter_core.pytorch.training.encoding import EncodedDataset, encode
from compacter_core.pytorch.training.history import History, draw_curves, read_history
from compacter_core.pytorch.training.labels import Labels
from compacter_core.pytorch.training.progress import ProgressBar
from compacter_core.pytorch.training.result import TrainResult, write_log
from compacter_core.pytorch.training.settings import AdapterRecipe, TrainSettings
from compacter_core.pytorch.training.sources import load_examples
from compacter_core.pytorch.training.trainer import last_checkpoint, trainer_class

CURVE_FILE: Final = "training_curve.png"
_CHECKPOINTS: Final = "checkpoints"


def train(settings: TrainSettings, output: Path) -> TrainResult:
    """Trains on `settings.train`, keeps the epoch that is best on `settings.validation`, and saves it in `output`.

    `output` gets the hub profile of the adapter (for full fine-tuning: the model and its tokenizer),
    `training_log.json` and, where matplotlib is installed, `training_curve.png`. While training it also has the
    checkpoints.

    Raises:
        CompacterError: E801, E802 and E005 for the data, E005 and E803 for the backbone, E006 if `output` holds
            something and `settings.resume` is off, E001 and E2xx for the settings.
    """
    _check_output(output, resume=settings.resume)
    train_rows = load_examples(settings.train, split="train", columns=settings.columns)
    validation_rows = load_examples(settings.validation, split="validation", columns=settings.columns)
    labels = Labels.of(train_rows)
    for row in validation_rows:
        labels.index(row)
    schedule = settings.schedule
    start = load_backbone(settings.backbone, labels, revision=settings.revision, seed=schedule.seed)
    length = start.length_limit(settings.max_length)
    data = {
        "train": encode(train_rows, labels, start.tokenizer, length),
        "validation": encode(validation_rows, labels, start.tokenizer, length),
    }
    counts = _prepare(start, settings)
    history, seconds = _fit(start, data, settings, output)
    _save(start, settings, output)
    result = TrainResult(
        output=output,
        history=history,
        counts=counts,
        labels=labels.names,
        rows={name: len(part) for name, part in data.items()},
        truncated=sum(part.truncated for part in data.values()),
        seconds=seconds,
    )
    write_log(result, settings, max_length=length)
    _draw(result, settings)
    shutil.rmtree(output / _CHECKPOINTS, ignore_errors=True)
    return result


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


def _prepare(start: Start, settings: TrainSettings) -> ParameterCounts:
    """Attaches the adapter of the recipe; full fine-tuning leaves the model as it is."""
    model = start.model
    recipe = settings.recipe
    if not isinstance(recipe, AdapterRecipe):
        head = sum(
            p.numel() for name, p in model.named_parameters() if not name.startswith(model.base_model_prefix + ".")
        )
        whole = sum(p.numel() for p in model.parameters())
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
        train_pooler=recipe.train_pooler or start.fresh_pooler,
    )
    return count_parameters(model)


def _fit(
    start: Start, data: Mapping[str, EncodedDataset], settings: TrainSettings, output: Path
) -> tuple[History, float]:
    """Trains `start.model` and leaves the best epoch's values in it."""
    checkpoints = output / _CHECKPOINTS
    schedule, recipe = settings.schedule, settings.recipe
    trainer = trainer_class(recipe)(
        start.model,
        start.tokenizer,
        train=data["train"],
        validation=data["validation"],
        recipe=recipe,
        schedule=schedule,
        directory=checkpoints,
    )
    if schedule.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(schedule.patience))
    if settings.progress:
        trainer.add_callback(ProgressBar(f"train {recipe.label}"))
    begin = time.perf_counter()
    with quiet_transformers():
        trainer.train(resume_from_checkpoint=str(last_checkpoint(checkpoints)) if settings.resume else None)
    return read_history(trainer.state.log_history), time.perf_counter() - begin


def _save(start: Start, settings: TrainSettings, output: Path) -> None:
    if isinstance(settings.recipe, AdapterRecipe):
        save_pretrained(start.model, output)
    else:
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
