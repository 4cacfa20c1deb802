"""The PyTorch back end: train adapters in transformers models."""

from compacter_core.pytorch.attach import ATTRIBUTE, AttachedAdapter, attach, attach_adapter, detach, get_adapter
from compacter_core.pytorch.bindings import describe_backbone, known_model_types
from compacter_core.pytorch.modules import AdapterModule, Projection, SiteAdapter
from compacter_core.pytorch.pretrained import (
    ParameterCounts,
    count_parameters,
    from_pretrained,
    print_trainable_parameters,
    save_pretrained,
)

__all__ = [
    "ATTRIBUTE",
    "AdapterModule",
    "AttachedAdapter",
    "ParameterCounts",
    "Projection",
    "SiteAdapter",
    "attach",
    "attach_adapter",
    "count_parameters",
    "describe_backbone",
    "detach",
    "from_pretrained",
    "get_adapter",
    "known_model_types",
    "print_trainable_parameters",
    "save_pretrained",
]
