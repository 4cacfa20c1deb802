"""fp16 backbones. Inputs and outputs keep their types, so that nothing that runs the graph has to know."""

from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir
from onnxruntime.transformers.float16 import convert_float_to_float16

from compacter_core.config import AdapterConfig
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.quiet import quiet

_OVERFLOWING: Final = ("t5", "mt5", "umt5")
"""Model types whose second feed-forward layer goes beyond 65504, the largest number of fp16."""


def check_range(config: AdapterConfig) -> None:
    """Refuse a backbone that is known to leave the range of fp16.

    Raises:
        CompacterError: E605.
    """
    model_type = None if config.backbone is None else config.backbone.model_type
    if model_type in _OVERFLOWING:
        raise CompacterError(
            ErrorCode.E605,
            "the feed-forward layers of this kind of backbone overflow in fp16",
            value=model_type,
            expected=f"another model type than {', '.join(_OVERFLOWING)}",
            remedy="Leave it in fp32, or quantise its weights.",
        )


def halve(source: Path, target: Path) -> None:
    """Write a backbone in fp16: weights are rounded, and those that are too large or small go to fp16's limits.

    Args:
        source: the backbone in fp32.
        target: the file to write; its data goes to a file beside it.
    """
    with quiet():
        model = ir.from_proto(convert_float_to_float16(onnx.load(source), keep_io_types=True))
    model.graph.sort()  # the converter puts some casts behind what reads them
    ir.save(model, target, external_data=f"{target.name}.data")
