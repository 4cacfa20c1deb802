"""How far two runs of a model may be apart that differ in what the runtime fuses."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from compacter_core.adapter import Array, DType
from compacter_exporters.checks import Check, Numbers

AGREEMENT: Final = 2e-5
"""How far two runs of an fp32 model, differently fused, may be apart, relative to the largest output: what the project
demands of a merged model against PyTorch. Other types in proportion to their roundoff."""


def agreement(plain: Mapping[str, Array], probed: Mapping[str, Array], numbers: Numbers) -> Check:
    """The largest difference between the outputs of two runs, relative to the largest output."""
    limit = AGREEMENT * numbers.roundoff / DType.F32.roundoff
    checks = []
    for name, array in plain.items():
        if not np.issubdtype(array.dtype, np.floating):
            continue
        scale = np.abs(array.astype(np.float64)).max(initial=0.0)
        checks.append(Check.of(array, probed[name].astype(np.float64), np.full(array.shape, limit * scale)))
    return Check.worst(checks)
