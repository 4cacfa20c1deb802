"""Training: data and a backbone in, an adapter out."""

from compacter_core.pytorch.training.examples import Columns, Example, read_file
from compacter_core.pytorch.training.history import Evaluation, History, LossPoint, draw_curves
from compacter_core.pytorch.training.labels import Labels
from compacter_core.pytorch.training.metrics import Metric
from compacter_core.pytorch.training.named_tasks import NAMED_TASKS, NamedTask, find_named_task
from compacter_core.pytorch.training.presets import PRESETS, Preset
from compacter_core.pytorch.training.result import LOG_FILE, TrainResult, load_result
from compacter_core.pytorch.training.run import CURVE_FILE, train
from compacter_core.pytorch.training.settings import (
    FULL_FINE_TUNING,
    AdapterRecipe,
    Decay,
    FullRecipe,
    Recipe,
    Schedule,
    TrainSettings,
)
from compacter_core.pytorch.training.sources import load_examples
from compacter_core.pytorch.training.task import Task

__all__ = [
    "CURVE_FILE",
    "FULL_FINE_TUNING",
    "LOG_FILE",
    "NAMED_TASKS",
    "PRESETS",
    "AdapterRecipe",
    "Columns",
    "Decay",
    "Evaluation",
    "Example",
    "FullRecipe",
    "History",
    "Labels",
    "LossPoint",
    "Metric",
    "NamedTask",
    "Preset",
    "Recipe",
    "Schedule",
    "Task",
    "TrainResult",
    "TrainSettings",
    "draw_curves",
    "find_named_task",
    "load_examples",
    "load_result",
    "read_file",
    "train",
]
