"""An adapter in memory: its configuration and its tensors as NumPy arrays, and views of them per site."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compacter_core.config import AdapterConfig
from compacter_core.layout import Part, Side, projection_names, scaling_name
from compacter_core.vocabulary import Activation, ProjectionKind, ScalingKind

Array = NDArray[Any]


class DType(StrEnum):
    """Data type of an adapter's tensors in its file. BF16 is held as float32 in memory, exactly."""

    F64 = "F64"
    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"

    @property
    def memory(self) -> np.dtype[Any]:
        """The NumPy type that holds such values exactly."""
        return np.dtype({"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.float32}[self.value])

    @property
    def roundoff(self) -> float:
        """The unit roundoff u of one rounding to this type: 2^-53, 2^-24, 2^-11, 2^-8."""
        return {"F64": 2.0**-53, "F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}[self.value]

    @property
    def smallest_normal(self) -> float:
        """The smallest positive normal number."""
        return {"F64": 2.0**-1022, "F32": 2.0**-126, "F16": 2.0**-14, "BF16": 2.0**-126}[self.value]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionParameters:
    """Tensors of one projection x -> x W + b, by the names of the file.

    Which of them are present follows from `kind`: W for dense [in, out] and phm [n, in/n, out/n]; W_left and W_right
    for low_rank [in, r], [r, out] and lphm [n, in/n, r], [n, r, out/n]; for the last two kinds with a rule also
    phm_rule [n, n, n], or phm_rule_left [n, n, 1] with phm_rule_right [n, 1, n]. b is [out] or absent.
    """

    kind: ProjectionKind
    W: Array | None = None
    W_left: Array | None = None
    W_right: Array | None = None
    phm_rule: Array | None = None
    phm_rule_left: Array | None = None
    phm_rule_right: Array | None = None
    b: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteParameters:
    """Everything that decides D at one site: delta = scaling * (act(x Wd + bd) Wu + bu).

    `scaling` is a number, [1] or [d].
    """

    down: ProjectionParameters
    up: ProjectionParameters
    non_linearity: Activation
    scaling: float | Array = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adapter:
    """A configuration with the tensors that belong to it.

    Args:
        config: the configuration.
        tensors: full name to array: `shared.*`, `site.*`, `override.*` and `head.*`, all of type `dtype.memory`.
        sketches: `sketch.*` tensors, float32, that recognise the backbone.
        dtype: type in the file.
    """

    config: AdapterConfig
    tensors: Mapping[str, Array]
    sketches: Mapping[str, Array] = field(default_factory=dict)
    dtype: DType = DType.F32

    def site(self, site_id: str) -> SiteParameters:
        """The tensors of one site.

        Raises:
            CompacterError: E211 if the adapter has no such site.
        """
        site = self.config.site(site_id)
        scaling = self.config.scaling
        return SiteParameters(
            down=self._projection(site_id, Side.DOWN),
            up=self._projection(site_id, Side.UP),
            non_linearity=self.config.non_linearity,
            scaling=self.tensors[scaling_name(site)] if isinstance(scaling, ScalingKind) else scaling,
        )

    def part(self, part: Part) -> dict[str, Array]:
        """The tensors of one part, by their name without the part's prefix."""
        prefix = f"{part}."
        source = self.sketches if part is Part.SKETCH else self.tensors
        return {name.removeprefix(prefix): array for name, array in source.items() if name.startswith(prefix)}

    def _projection(self, site_id: str, side: Side) -> ProjectionParameters:
        names = projection_names(self.config, self.config.site(site_id), side).tensors
        arrays = {short: self.tensors[full] for short, full in names.items()}
        return ProjectionParameters(kind=self.config.projection.kind, **arrays)
