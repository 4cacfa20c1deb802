"""Gradient checkpointing of a frozen backbone.

Reentrant checkpointing recomputes a layer only for inputs that require gradients. When nothing before the first layer
is trained, none does, and the adapters inside would get no gradient, with no more than a warning. So while
checkpointing is on, the gradient's graph is made to start at the input of the first layer.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compacter_core.pytorch.switching import Switch


class GraphStart:
    """Makes the first layer's input require gradients while that layer is checkpointed."""

    def __init__(self, first_layer: nn.Module, switch: Switch) -> None:
        self._first_layer = first_layer
        self._switch = switch

    def register(self, before: nn.Module) -> RemovableHandle:
        """Acts on the output of `before`, the last module before the first layer."""
        return before.register_forward_hook(self._switch.gate(self.require_gradient))

    def require_gradient(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """The output, as a leaf of the graph where it would not be in the graph at all."""
        is_checkpointed = getattr(self._first_layer, "gradient_checkpointing", False) and self._first_layer.training
        if is_checkpointed and torch.is_grad_enabled() and not output.requires_grad:
            return output.detach().requires_grad_()
        return output
