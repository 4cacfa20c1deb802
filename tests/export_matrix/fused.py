"""What ONNX Runtime's optimiser fuses in a backbone, with and without adapters."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import onnxruntime

from compacter_exporters.operators import count_fused

_ADAPTERS: Final = "compacter/"


def count_optimised(files: Iterable[Path]) -> Counter[str]:
    """Fused operators, by type, of the models as a session on the CPU runs them, without those of adapters."""
    counts: Counter[str] = Counter()
    for file in list(files):
        # Beside the model, for its external data are the optimised one's.
        optimised = file.with_name(f"{file.stem}.optimised")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(optimised)
        onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        counts.update(count_fused(optimised, besides=_ADAPTERS))
        optimised.unlink()
    return counts
