"""transformers' Trainer, taught to keep an adapter's checkpoints as adapter files and to batch rows by length."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.pytorch.adapters import get_adapter
from compacter_core.pytorch.distributed import process_count
from compacter_core.pytorch.pretrained import save_pretrained
from compacter_core.pytorch.training.encoding import IGNORED, EncodedDataset
from compacter_core.pytorch.training.optimiser import make_optimiser
from compacter_core.pytorch.training.settings import AdapterRecipe, Recipe, Schedule, TrainSettings
from compacter_core.pytorch.training.tasks import Strategy

_STATE = "trainer_state.json"


@dataclass(frozen=True)
class TaskData:
    """What a run is about.

    Args:
        strategy: of the kind of task.
        train: encoded training rows.
        validation: encoded validation rows.
        validation_rows: the same before encoding, in the same order.
    """

    strategy: Strategy[Any]
    train: EncodedDataset
    validation: EncodedDataset
    validation_rows: Sequence[Any]


class RecipeTrainer(Seq2SeqTrainer):  # type: ignore[misc]  # transformers is not typed for mypy
    """A Trainer whose optimiser follows a recipe, and whose batches and scores follow a task.

    Everything else of a run is the Trainer's: seeds, accumulation, devices, evaluation, generation, resuming, best
    checkpoint.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, data: TaskData, settings: TrainSettings, path: Path) -> None:
        self.optimizer: torch.optim.Optimizer | None = None
        self._recipe = settings.recipe
        self._schedule = settings.schedule
        self._lengths = list(data.train.lengths)
        strategy = data.strategy
        super().__init__(
            model=model,
            args=_arguments(settings, strategy, path, rows=len(data.train)),
            train_dataset=data.train,
            eval_dataset=data.validation,
            data_collator=strategy.collator(tokenizer),
            processing_class=tokenizer,
            compute_metrics=_Scoring(data, tokenizer),
            preprocess_logits_for_metrics=None if strategy.generates else strategy.reduce,
        )
        # Both print to stdout, which belongs to the result.
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """See `make_optimiser`."""
        if self.optimizer is None:
            self.optimizer = make_optimiser(model or self.model, self._recipe, self._schedule)
        return self.optimizer

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over the items of a batch, whichever process has them.

        Of several processes, each one's mean is weighted by its share of the items. The Trainer itself scales by their
        number for every model that accepts the number of items, also for those that do not use it.
        """
        processes = process_count()
        if processes == 1:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        items = (inputs["labels"] != IGNORED).sum()
        share = items / self.accelerator.reduce(items, "sum")
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        loss = loss * (share * processes)
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:
        """Batches of rows of similar length, for little padding; the Trainer's own option for it changed its name."""
        schedule = self._schedule
        if process_count() > 1:
            return CommonOrder(schedule.batch_size, self._lengths, schedule.seed)
        sampler: Sampler[int] = LengthGroupedSampler(schedule.batch_size, lengths=self._lengths)
        return sampler


class CommonOrder(LengthGroupedSampler):  # type: ignore[misc]  # transformers is not typed for mypy
    """Batches of rows of similar length in an order that seed and epoch alone decide.

    Every process deals them and takes its own part: the order must not depend on what dropout has drawn there.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self._seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch."""
        self.generator = torch.Generator().manual_seed(hash((self._seed, epoch)))


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


class _Scoring:
    """The Trainer's `compute_metrics` for a task."""

    def __init__(self, data: TaskData, tokenizer: Any) -> None:
        self._data = data
        self._tokenizer = tokenizer

    def __call__(self, evaluation: tuple[NDArray[Any], NDArray[Any]]) -> dict[str, float]:
        """Scores by name."""
        answers, truth = evaluation
        rows = self._data.validation_rows
        # Several processes fill up their last batch with rows of the first.
        scores = self._data.strategy.score(answers[: len(rows)], truth[: len(rows)], rows, self._tokenizer)
        return {metric.value: float(score) for metric, score in scores.items()}


def _arguments(settings: TrainSettings, strategy: Strategy[Any], path: Path, *, rows: int) -> Seq2SeqTrainingArguments:
    schedule: Schedule = settings.schedule
    steps = -(-rows // schedule.batch_size)
    return Seq2SeqTrainingArguments(
        output_dir=str(path),
        num_train_epochs=schedule.epochs,
        per_device_train_batch_size=_rows_per_process(schedule.batch_size),
        per_device_eval_batch_size=schedule.eval_batch_size,
        learning_rate=settings.recipe.learning_rate,
        lr_scheduler_type=schedule.decay.value,
        warmup_steps=schedule.rising_steps(steps * schedule.epochs),
        weight_decay=schedule.weight_decay,
        max_grad_norm=schedule.max_grad_norm,
        seed=schedule.seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{strategy.goal}",
        greater_is_better=strategy.goal.higher_is_better,
        logging_steps=max(1, steps // 10),
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.accelerator.is_available(),  # said outright, processes on CPUs find each other
        dataloader_pin_memory=torch.cuda.is_available(),
        predict_with_generate=strategy.generates,
        # The decoder's start token counts too.
        generation_max_length=settings.max_target_length + 1,
        generation_num_beams=settings.num_beams,
    )


def _rows_per_process(batch_size: int) -> int:
    """A process' part of a batch.

    Raises:
        CompacterError: E001 if there are no equal parts, whose mean gradient would be another than the batch's.
    """
    processes = process_count()
    if batch_size % processes:
        raise CompacterError(
            ErrorCode.E001, "batch_size", value=batch_size, expected=f"a multiple of the {processes} processes"
        )
    return batch_size // processes


def last_checkpoint(directory: Path) -> Path:
    """The newest complete checkpoint of a run: one whose state, which is written last, can be read.

    Raises:
        CompacterError: E005 if there is none.
    """
    found = [path for path in directory.glob("checkpoint-*") if _is_complete(path)]
    if not found:
        raise CompacterError(
            ErrorCode.E005, "no checkpoint to resume from", value=str(directory), remedy="Train without --resume."
        )
    return max(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _is_complete(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / _STATE).read_bytes())
    except (OSError, ValueError):
        return False
    return True
