"""Adapters with drawn tensors: dyadic ones of moderate size, or small integers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.config import AdapterConfig
from compacter_core.conformance.generate.source import Source
from compacter_core.layout import adapter_layout
from compacter_core.vocabulary import Activation

_EXPONENTS: Final = {
    "W": -1,
    "W_left": -1,
    "W_right": 0,
    "phm_rule": -1,
    "phm_rule_left": -1,
    "phm_rule_right": 0,
    "b": 0,
    "scaling": 0,
}
"""Sizes of the tensors by short name: so chosen that z is of the order of 1, where activations bend."""

_FEW_SUMMANDS: Final = 2
_FIRST_OF_RULE: Final = ("phm_rule", "phm_rule_left")
"""With more summands A is half as large, so that z does not grow with their number."""

UNITS: Final = (-1, 1)


def dyadic_adapter(config: AdapterConfig, source: Source) -> Adapter:
    """Values of 8 significant bits, exact in every type (CNF-3)."""
    smaller = int((config.projection.phm_dim or 1) > _FEW_SUMMANDS)
    return _adapter(
        config,
        {
            name: source.dyadic(shape, _EXPONENTS[short] - (smaller if short in _FIRST_OF_RULE else 0))
            for name, shape in adapter_layout(config).items()
            for short in [name.rsplit(".", 1)[1]]
        },
    )


def integer_adapter(config: AdapterConfig, source: Source, values: Sequence[int] = UNITS) -> Adapter:
    """Small integers other than 0."""
    return _adapter(config, {name: source.integers(shape, values) for name, shape in adapter_layout(config).items()})


def with_tensors(adapter: Adapter, tensors: dict[str, Array]) -> Adapter:
    """The adapter with some tensors replaced."""
    return replace(
        adapter,
        tensors={**adapter.tensors, **{name: np.asarray(array, dtype=np.float32) for name, array in tensors.items()}},
    )


def absolute_adapter(adapter: Adapter) -> Adapter:
    """The adapter of magnitudes, at least 1, with the identity as activation."""
    scaling = adapter.config.scaling
    return replace(
        adapter,
        config=replace(
            adapter.config,
            non_linearity=Activation.IDENTITY,
            scaling=max(1.0, abs(scaling)) if isinstance(scaling, float) else scaling,
        ),
        tensors={name: magnitude(array) for name, array in adapter.tensors.items()},
    )


def magnitude(array: Array) -> Array:
    """Absolute values, but at least 1."""
    return np.maximum(np.abs(array), 1)


def _adapter(config: AdapterConfig, tensors: dict[str, Array]) -> Adapter:
    return Adapter(
        config=config,
        tensors={name: array.astype(np.float32) for name, array in tensors.items()},
        dtype=DType.F32,
    )
