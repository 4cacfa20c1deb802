"""Backbones as optimisers write them: ONNX Runtime's own, saved, and the transformers package's."""

import logging
import shutil
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import onnxruntime
from onnxruntime.transformers import optimizer

HEADS = 2
HIDDEN = 16


class How(StrEnum):
    """Which optimiser."""

    BASIC = "basic"
    EXTENDED = "extended"
    TRANSFORMERS = "transformers"


Optimised = Callable[[Path, How], Path]


def optimise(
    source: Path, how: How, target: Path, *, model_type: str = "bert", heads: int = HEADS, hidden: int = HIDDEN
) -> Path:
    """Write an optimised graph; `model_type` is the optimiser's own name of the kind of model."""
    if how is How.TRANSFORMERS:
        logging.disable(logging.WARNING)
        try:
            fused = optimizer.optimize_model(
                str(source), model_type, num_heads=heads, hidden_size=hidden, opt_level=0, only_onnxruntime=False
            )
            fused.save_model_to_file(str(target))
        finally:
            logging.disable(logging.NOTSET)
        return target
    data = source.with_name(f"{source.name}.data")
    if data.exists():
        shutil.copy(data, target.with_name(data.name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_BASIC if how is How.BASIC else level.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return target
