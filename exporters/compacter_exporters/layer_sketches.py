"""Comparing the weights of many layers with a sketch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from compacter_core.adapter import Array
from compacter_core.format.sketch import THRESHOLD, similarity
from compacter_exporters.linears import Linear

COARSE_THRESHOLD: Final = 0.5
"""Of quantised weights (ONX-31). One large value makes the steps of a whole matrix large."""

_NEAR: Final = COARSE_THRESHOLD - 2.0**-20
"""Scores above this are computed again, exactly as the file format defines them."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerSketches:
    """The sketches of many layers; most fail a quick comparison, and only the others are compared fully.

    Args:
        layers: the layers.
        raw: their sketches.
        unit: the same, centred and of length 1, by their size: positions in `layers` and one row for each.
    """

    layers: Sequence[Linear]
    raw: Sequence[Array]
    unit: Mapping[int, tuple[list[int], Array]]

    @classmethod
    def of(cls, layers: Sequence[Linear]) -> "LayerSketches":
        """Read the layers' sketches."""
        raw = [layer.sketch() for layer in layers]
        positions: dict[int, list[int]] = {}
        for position, sketch in enumerate(raw):
            positions.setdefault(sketch.size, []).append(position)
        unit = {size: (where, _centred(np.stack([raw[i] for i in where]))) for size, where in positions.items()}
        return cls(layers, raw, unit)

    def holds(self, sketch: Array | None) -> bool:
        """Whether some layer's weight comes from the sketched one."""
        return sketch is not None and any(score >= least(layer) for score, layer in self.scores(sketch))

    def scores(self, sketch: Array) -> list[tuple[float, Linear]]:
        """Correlation of every layer of the right size with a sketch."""
        positions, rows = self.unit.get(sketch.size, ([], np.zeros((0, sketch.size))))
        rough = rows @ _centred(sketch[np.newaxis])[0]
        return [
            (similarity(sketch, self.raw[i]) if score > _NEAR or score == 0.0 else float(score), self.layers[i])
            for i, score in zip(positions, rough, strict=True)
        ]


def least(layer: Linear) -> float:
    """The correlation from which on a layer's weight comes from the sketched one (SKT-6, ONX-31)."""
    return THRESHOLD if layer.quantised is None else COARSE_THRESHOLD


def _centred(rows: Array) -> Array:
    """Each row less its mean, divided by its length; zero where it is constant."""
    wide = rows.astype(np.float64) - rows.mean(axis=-1, keepdims=True, dtype=np.float64)
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    return np.asarray(np.divide(wide, length, out=np.zeros_like(wide), where=length > 0))
