"""What the tests of attached adapters share."""

from typing import Any

import torch

from compacter_core.config import AdapterConfig
from compacter_core.methods import Method, create_config
from compacter_core.pytorch import AttachedAdapter, attach, describe_backbone
from compacter_core.pytorch.binding_files import Binding


def tiny_adapter_config(
    model: Any, method: Method = Method.COMPACTER, *, binding: Binding | None = None, **changes: Any
) -> AdapterConfig:
    """A configuration with bottlenecks that suit d = 16."""
    return create_config(describe_backbone(model, binding), method=method, reduction_factor=4, phm_dim=2, **changes)


def attach_trained(
    model: Any, config: AdapterConfig | None = None, *, seed: int = 7, **options: Any
) -> AttachedAdapter:
    """Attaches an adapter that looks trained: everything that trains has moved away from its initial value."""
    attached = attach(model, config or tiny_adapter_config(model), generator=seed, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in attached.trainable_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return attached


def backward(loss: torch.Tensor) -> None:
    """Backpropagates; the one place that calls what PyTorch leaves untyped."""
    loss.backward()  # type: ignore[no-untyped-call]  # PyTorch's annotations lack it


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The first output of the model."""
    output: torch.Tensor = model(**inputs)[0]
    return output
