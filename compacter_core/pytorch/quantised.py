"""Weights that a library stores in fewer bits: told from others, and turned back into numbers.

Known are bitsandbytes' 4 and 8 bits. An adapter on such a backbone is an ordinary adapter in float32; quantisation
concerns the sketches alone.
"""

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.distributed import whole, whole_shape


def is_quantised(linear: nn.Module) -> bool:
    """Whether a linear's weight is stored otherwise than as floating-point numbers."""
    weight = getattr(linear, "weight", None)
    return not (isinstance(weight, nn.Parameter) and weight.is_floating_point())


def is_known(linear: nn.Module) -> bool:
    """Whether a linear's weight can be turned into floating-point numbers."""
    return not is_quantised(linear) or type(getattr(linear, "weight", None)).__name__ in ("Params4bit", "Int8Params")


def floating_weight(linear: nn.Module) -> Tensor:
    """A linear's whole weight as it is stored, [out, in] for nn.Linear; dequantised where it is quantised.

    Raises:
        CompacterError: E003 for a form of quantisation that is not known here.
    """
    if not is_known(linear):
        raise CompacterError(
            ErrorCode.E003,
            "a linear of the backbone is quantised in a form whose values are not known here",
            value=type(linear).__name__,
            expected="floating-point weights, or bitsandbytes' 4 or 8 bits",
            remedy="Take sketches of the model before it was quantised (sketch_backbone) and pass them to attach.",
        )
    weight: Any = linear.weight
    layer: Any = linear
    if not is_quantised(linear):
        return whole(weight)
    from bitsandbytes import functional  # noqa: PLC0415 optional, and there whenever such a weight is

    if type(weight).__name__ == "Params4bit":
        if getattr(weight.quant_state, "packing_format_for_cpu", False):
            # Inference on some processors has packed it in another order; the library unpacks it for its state_dict.
            linear.state_dict()
        values: Tensor = functional.dequantize_4bit(weight.data, weight.quant_state)
    else:
        # The scales move from the weight to the layer's state in its first forward pass.
        scales = weight.SCB if weight.SCB is not None else layer.state.SCB
        values = functional.int8_vectorwise_dequant(weight.data, scales)
    return values


def element_count(parameter: Tensor) -> int:
    """How many numbers a parameter stands for: in 4 bits, two share a byte."""
    state = getattr(parameter, "quant_state", None)
    return torch.Size(whole_shape(parameter) if state is None else state.shape).numel()


def device_of(linear: nn.Module) -> torch.device:
    """Where a linear's tensors are."""
    return next(chain(linear.parameters(), linear.buffers())).device
