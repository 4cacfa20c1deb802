"""Hyperparameters by name."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from compacter_core.pytorch.training.settings import AdapterRecipe, Decay, Schedule
from compacter_core.vocabulary import Activation


class Preset(StrEnum):
    """Named hyperparameters."""

    DEFAULT = "default"
    PAPER = "paper"


PRESETS: Final[Mapping[Preset, tuple[AdapterRecipe, Schedule]]] = MappingProxyType(
    {
        Preset.DEFAULT: (AdapterRecipe(), Schedule()),
        # Paper, section 4 and appendix: T5 on GLUE and SuperGLUE.
        Preset.PAPER: (
            AdapterRecipe(
                learning_rate=3e-3,
                reduction_factor=32,
                phm_dim=4,
                phm_rank=1,
                non_linearity=Activation.GELU_NEW,
                train_norms=True,
            ),
            Schedule(epochs=20, batch_size=100, warmup_steps=500, decay=Decay.LINEAR, weight_decay=0.0),
        ),
    }
)
