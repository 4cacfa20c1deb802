"""What a training run does, as frozen data."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Final

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.methods import Method
from compacter_core.pytorch.training.examples import Columns
from compacter_core.pytorch.training.named_tasks import find_named_task
from compacter_core.pytorch.training.task import Task
from compacter_core.vocabulary import Activation, Pooling

FULL_FINE_TUNING: Final = "full"
"""The word for training every parameter instead of an adapter."""


class Decay(StrEnum):
    """How the learning rate falls after the warm-up, as transformers names it."""

    LINEAR = "linear"
    COSINE = "cosine"
    CONSTANT = "constant_with_warmup"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRecipe:
    """Which adapter is trained, and how fast.

    Args:
        method: the published method.
        name: the adapter's name.
        reduction_factor: d over k.
        phm_dim: n.
        phm_rank: r.
        non_linearity: the activation.
        train_norms: train the backbone's norms too.
        train_pooler: train the pooler, where there is one, as part of the head; always so if the checkpoint lacks it.
        pooling: what the head reads in place of the pooler's output.
        learning_rate: of the adapter; the paper's by default. Compacter needs many times that of full fine-tuning: the
            gradient of its fast weights comes through a rule that starts near zero.
        head_learning_rate: of the task head; the adapter's if None.
        pretrained_learning_rate: of what trains from pretrained values, norms and pooler; the adapter's if None.
    """

    method: Method = Method.COMPACTER
    name: str = "default"
    reduction_factor: int = 32
    phm_dim: int = 4
    phm_rank: int = 1
    non_linearity: Activation = Activation.GELU_NEW
    train_norms: bool = True
    train_pooler: bool = False
    pooling: Pooling | None = None
    learning_rate: float = 3e-3
    head_learning_rate: float | None = None
    pretrained_learning_rate: float | None = None

    def __post_init__(self) -> None:
        _positive("learning_rate", self.learning_rate)
        for name in ("head_learning_rate", "pretrained_learning_rate"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))

    @property
    def label(self) -> str:
        """The method's word on the command line."""
        return self.method.value


@dataclass(frozen=True, slots=True, kw_only=True)
class FullRecipe:
    """Full fine-tuning: the baseline that adapters are measured against.

    Args:
        learning_rate: of everything.
        pooling: as in `AdapterRecipe`; whoever loads the model has to ask for it again (`pool_before_head`).
    """

    learning_rate: float = 2e-4
    pooling: Pooling | None = None

    def __post_init__(self) -> None:
        _positive("learning_rate", self.learning_rate)

    @property
    def label(self) -> str:
        """The word on the command line."""
        return FULL_FINE_TUNING


Recipe = AdapterRecipe | FullRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and in which steps.

    Args:
        epochs: passes over the training data.
        batch_size: rows per step.
        eval_batch_size: rows per evaluation step.
        warmup: share of all steps in which the learning rate rises.
        warmup_steps: their number itself; then warmup is not used.
        decay: how it falls afterwards.
        weight_decay: of AdamW.
        max_grad_norm: gradients are clipped to this norm.
        patience: stop after so many epochs without a better score in validation; None for never.
        seed: of the initial adapter and head, the order of rows and dropout.
    """

    epochs: int = 5
    batch_size: int = 32
    eval_batch_size: int = 64
    warmup: float = 0.06
    warmup_steps: int | None = None
    decay: Decay = Decay.LINEAR
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "eval_batch_size", "max_grad_norm"):
            _positive(name, getattr(self, name))
        if self.patience is not None:
            _positive("patience", self.patience)
        if not 0 <= self.warmup < 1:
            raise CompacterError(ErrorCode.E001, "warmup", value=self.warmup, expected="a share of at least 0, below 1")
        if self.warmup_steps is not None and self.warmup_steps < 0:
            raise CompacterError(ErrorCode.E001, "warmup_steps", value=self.warmup_steps, expected="at least 0")
        if not self.weight_decay >= 0:
            raise CompacterError(ErrorCode.E001, "weight_decay", value=self.weight_decay, expected="at least 0")
        if not 0 <= self.seed < 2**32:
            raise CompacterError(ErrorCode.E001, "seed", value=self.seed, expected="0 to 2^32 - 1")

    def rising_steps(self, steps: int) -> int:
        """In how many of all `steps` the learning rate rises."""
        return int(self.warmup * steps) if self.warmup_steps is None else self.warmup_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """One training run.

    Args:
        backbone: a directory or a hub name.
        train: source of the training rows (see `load_examples`).
        validation: source of the validation rows.
        revision: of a hub backbone.
        columns: where the parts of a row are.
        task: the kind of task.
        named: the published task that the rows are of, such as `glue/mrpc`; then its own columns are read.
        max_length: tokens per row, longer ones are cut; None for the model's own limit, at most 128.
        max_target_length: tokens of a text to be generated, in training and in validation.
        num_beams: of generation in validation.
        recipe: what is trained.
        schedule: how long.
        logging_dir: where TensorBoard's event files go; None for none.
        resume: go on from the last checkpoint in the output directory.
        progress: show progress bars on stderr.
    """

    backbone: str
    train: str
    validation: str
    revision: str | None = None
    columns: Columns = field(default_factory=Columns)
    task: Task = Task.CLASSIFICATION
    named: str | None = None
    max_length: int | None = None
    max_target_length: int = 64
    num_beams: int = 1
    recipe: Recipe = field(default_factory=AdapterRecipe)
    schedule: Schedule = field(default_factory=Schedule)
    logging_dir: str | None = None
    resume: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        _positive("max_target_length", self.max_target_length)
        _positive("num_beams", self.num_beams)
        if self.named is not None:
            find_named_task(self.named).check_kind(self.task)

    def as_dict(self) -> dict[str, object]:
        """JSON-compatible fields."""
        return asdict(self) | {"recipe": {"label": self.recipe.label} | asdict(self.recipe)}


def _positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise CompacterError(ErrorCode.E001, name, value=value, expected="a number above 0")
