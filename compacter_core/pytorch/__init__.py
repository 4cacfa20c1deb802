"""The PyTorch back end: train adapters in transformers models."""

from compacter_core.pytorch.adapters import ATTRIBUTE, Adapters, adapter_names, detach, get_adapter, set_active
from compacter_core.pytorch.attach import attach, attach_adapter
from compacter_core.pytorch.attached import AttachedAdapter
from compacter_core.pytorch.binding_check import check_binding
from compacter_core.pytorch.binding_files import known_model_types, load_binding, read_binding
from compacter_core.pytorch.bindings import describe_backbone
from compacter_core.pytorch.modules import AdapterModule, Projection, SiteAdapter
from compacter_core.pytorch.pretrained import (
    ParameterCounts,
    count_parameters,
    from_pretrained,
    print_trainable_parameters,
    save_pretrained,
)
from compacter_core.pytorch.sketches import sketch_backbone

__all__ = [
    "ATTRIBUTE",
    "AdapterModule",
    "Adapters",
    "AttachedAdapter",
    "ParameterCounts",
    "Projection",
    "SiteAdapter",
    "adapter_names",
    "attach",
    "attach_adapter",
    "check_binding",
    "count_parameters",
    "describe_backbone",
    "detach",
    "from_pretrained",
    "get_adapter",
    "known_model_types",
    "load_binding",
    "print_trainable_parameters",
    "read_binding",
    "save_pretrained",
    "set_active",
    "sketch_backbone",
]
