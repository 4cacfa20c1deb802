"""transformers' Trainer, taught to keep an adapter's checkpoints as adapter files and to batch rows by length."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.pytorch.attach import get_adapter
from compacter_core.pytorch.pretrained import save_pretrained
from compacter_core.pytorch.training.encoding import EncodedDataset
from compacter_core.pytorch.training.optimiser import make_optimiser
from compacter_core.pytorch.training.settings import AdapterRecipe, Recipe, Schedule

ACCURACY = "eval_accuracy"


class RecipeTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed for mypy
    """A Trainer whose optimiser follows a recipe.

    Everything else of a run is the Trainer's: seeds, accumulation, devices, evaluation, resuming, best checkpoint.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        train: EncodedDataset,
        validation: EncodedDataset,
        recipe: Recipe,
        schedule: Schedule,
        directory: Path,
    ) -> None:
        self.optimizer: torch.optim.Optimizer | None = None
        self._recipe = recipe
        self._schedule = schedule
        self._lengths = list(train.lengths)
        super().__init__(
            model=model,
            args=_arguments(schedule, recipe, directory, rows=len(train)),
            train_dataset=train,
            eval_dataset=validation,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=_metrics,
        )
        # Both print to stdout, which belongs to the result.
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """See `make_optimiser`."""
        if self.optimizer is None:
            self.optimizer = make_optimiser(model or self.model, self._recipe, self._schedule)
        return self.optimizer

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:
        """Batches of rows of similar length, for little padding; the Trainer's own option for it changed its name."""
        sampler: Sampler[int] = LengthGroupedSampler(self._schedule.batch_size, lengths=self._lengths)
        return sampler


class AdapterTrainer(RecipeTrainer):
    """Checkpoints are hub profiles of the adapter, kilobytes instead of the whole model."""

    def _save(self, output_dir: str | None = None, state_dict: object = None) -> None:
        save_pretrained(self.model, output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        get_adapter(model or self.model).load(load_adapter(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def trainer_class(recipe: Recipe) -> type[RecipeTrainer]:
    """The trainer that keeps the right kind of checkpoints."""
    return AdapterTrainer if isinstance(recipe, AdapterRecipe) else RecipeTrainer


def _arguments(schedule: Schedule, recipe: Recipe, directory: Path, *, rows: int) -> TrainingArguments:
    steps = -(-rows // schedule.batch_size)
    return TrainingArguments(
        output_dir=str(directory),
        num_train_epochs=schedule.epochs,
        per_device_train_batch_size=schedule.batch_size,
        per_device_eval_batch_size=schedule.eval_batch_size,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=schedule.decay.value,
        warmup_steps=int(schedule.warmup * steps * schedule.epochs),
        weight_decay=schedule.weight_decay,
        max_grad_norm=schedule.max_grad_norm,
        seed=schedule.seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=ACCURACY,
        greater_is_better=True,
        logging_steps=max(1, steps // 10),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _metrics(evaluation: tuple[NDArray[Any], NDArray[Any]]) -> dict[str, float]:
    """Accuracy and the mean of the classes' F1 scores (classes that occur neither as truth nor as answer left out)."""
    logits, truth = evaluation
    answers = np.asarray(logits).argmax(-1)
    scores = [
        2 * float(np.sum((answers == one) & (truth == one))) / float(np.sum(answers == one) + np.sum(truth == one))
        for one in np.union1d(answers, truth)
    ]
    return {"accuracy": float(np.mean(answers == truth)), "macro_f1": float(np.mean(scores))}


def last_checkpoint(directory: Path) -> Path:
    """The newest complete checkpoint of a run.

    Raises:
        CompacterError: E005 if there is none.
    """
    found = [path for path in directory.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    if not found:
        raise CompacterError(
            ErrorCode.E005, "no checkpoint to resume from", value=str(directory), remedy="Train without --resume."
        )
    return max(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))
