"""Taking projections apart, putting them together, and differentiating by complex steps."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from compacter_core.adapter import Array, ProjectionParameters
from compacter_core.reference.adapter import Gradients

STEP = 2.0**-600
"""A power of two, so that it scales exactly, and so small that its square vanishes."""


def tensors_of(p: ProjectionParameters) -> dict[str, Array]:
    """The projection's tensors by short name."""
    found = {field.name: getattr(p, field.name) for field in fields(p)}
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, np.ndarray)}


def with_tensors(p: ProjectionParameters, tensors: Mapping[str, Array]) -> ProjectionParameters:
    """The projection with some tensors replaced."""
    changes: dict[str, Any] = dict(tensors)
    return replace(p, **changes)


def complex_steps(at: Array, objective: Callable[[Array], Any]) -> Array:
    """The gradient of an analytic function that is real on the real axis: Im f(at + i step) / step, by element."""
    result = np.empty(at.shape)
    for place in np.ndindex(at.shape):
        moved = at.astype(np.complex128)
        moved[place] += 1j * STEP
        result[place] = objective(moved).imag / STEP
    return result


def named(gradients: Gradients) -> dict[str, Array]:
    """All gradients under the oracle's names."""
    found = {"x": gradients.dx}
    found |= {f"down.{name}": array for name, array in gradients.down.items()}
    found |= {f"up.{name}": array for name, array in gradients.up.items()}
    return found if gradients.scaling is None else found | {"scaling": gradients.scaling}
