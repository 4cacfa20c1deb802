"""An imported adapter at work in a tiny model, against what the other library recorded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from compacter_core.importers.result import ImportedAdapter
from compacter_core.pytorch import attach_adapter
from tests.importers.fixtures.tiny import run

RELATIVE: Final = {torch.float32: 2e-5, torch.float64: 2e-5 * 2.0**-53 / 2.0**-24}
"""Largest difference of an output relative to the largest output: the same number of roundoffs in both types."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What another library computed in float64, without its adapter and with it."""

    plain: Tensor
    adapted: Tensor

    @classmethod
    def load(cls, directory: Path) -> "Recorded":
        """Those of a fixture."""
        return cls(**load_file(directory / "outputs.safetensors"))


def relative(got: Tensor, wanted: Tensor) -> float:
    """The largest difference relative to the largest value."""
    return float((got.double() - wanted).abs().max() / wanted.abs().max())


def check_outputs(result: ImportedAdapter, recorded: Recorded, model: Any) -> None:
    """The model computes with the imported adapter what was recorded, in both types, and without it something else.

    T5 takes some steps in float32 whatever its type, and versions of transformers take them differently. Where this one
    does not give the recorded outputs of the backbone alone in double precision, single precision is what there is.
    """
    noise = relative(run(model), recorded.plain)
    double = RELATIVE[torch.float64] if noise < RELATIVE[torch.float64] else RELATIVE[torch.float32]
    assert noise < double, "this is not the backbone of the fixture"
    assert relative(recorded.plain, recorded.adapted) > 1e-2, "the adapter does nothing"
    attach_adapter(model, result.adapter)
    assert relative(run(model), recorded.adapted) < double
    assert relative(run(model.float()), recorded.adapted) < RELATIVE[torch.float32]
