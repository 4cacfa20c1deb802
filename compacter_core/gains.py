"""What a backbone multiplies with where its norm has a weight: that weight, or 1 + weight (ONX-11, ONX-45)."""

from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array
from compacter_core.config import Backbone
from compacter_core.layout import Part
from compacter_core.vocabulary import OverrideKind

_GAIN_PLUS_ONE: Final = ("gemma",)
"""Model types whose norms multiply with 1 + weight."""


def consumed_gain(weight: Array, backbone: Backbone | None) -> Array:
    """The gain [d] of the norm that has this weight [d]; 1 + weight is in float64, to be rounded once."""
    is_shifted = backbone is not None and backbone.model_type in _GAIN_PLUS_ONE
    return 1.0 + weight.astype(np.float64) if is_shifted else weight


def consumed_overrides(adapter: Adapter) -> dict[str, Array]:
    """An adapter's replaced tensors as a graph consumes them, by the name of the override."""
    values, backbone = adapter.part(Part.OVERRIDE), adapter.config.backbone
    gains = {
        override.name
        for override in adapter.config.overrides
        if override.kind is OverrideKind.NORM and override.name.endswith(".weight")
    }
    return {name: consumed_gain(array, backbone) if name in gains else array for name, array in values.items()}
