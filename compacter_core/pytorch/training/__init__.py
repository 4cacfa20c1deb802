"""Training: labelled texts and a backbone in, an adapter out."""

from compacter_core.pytorch.training.examples import Columns, Example, read_file
from compacter_core.pytorch.training.history import Evaluation, History, LossPoint, draw_curves
from compacter_core.pytorch.training.labels import Labels
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

__all__ = [
    "CURVE_FILE",
    "FULL_FINE_TUNING",
    "LOG_FILE",
    "AdapterRecipe",
    "Columns",
    "Decay",
    "Evaluation",
    "Example",
    "FullRecipe",
    "History",
    "Labels",
    "LossPoint",
    "Recipe",
    "Schedule",
    "TrainResult",
    "TrainSettings",
    "draw_curves",
    "load_examples",
    "load_result",
    "read_file",
    "train",
]
