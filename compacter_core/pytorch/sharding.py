"""FSDP2 for a model with adapters: the backbone sharded by layers, each adapter a group of its own.

`fully_shard` wants one data type among what trains in a group, and gathers a group when its module is called. An
adapter is float32 in a bfloat16 backbone, and it is never called itself, its sites are: so it is gathered when the
model is.
"""

from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.adapters import ATTRIBUTE, Adapters
from compacter_core.pytorch.attached import AttachedAdapter


def shard(model: nn.Module, **options: Any) -> None:
    """Shards a model with its adapters over the processes, in place; make the optimiser afterwards.

    Adapters are attached, and the one that trains is made active, before. Saving, loading and switching go on working
    (`save_pretrained`, `AttachedAdapter.load`, `set_active`); every process has to take part in them.

    Args:
        model: with at least one adapter, plain in every process.
        options: of `torch.distributed.fsdp.fully_shard`, such as `mesh` and `mp_policy`.

    Raises:
        CompacterError: E804 if the model has no adapter.
    """
    adapters = getattr(model, ATTRIBUTE, None)
    if not isinstance(adapters, Adapters):
        raise CompacterError(
            ErrorCode.E804, "the model has no adapter", value=type(model).__name__, remedy="Call attach first."
        )
    bound = adapters.backbone
    for names in bound.layers.values():
        # Layers that share one module (ALBERT) are one group.
        for layer in {bound.base.get_submodule(name): None for name in names}:
            fully_shard(layer, **options)
    for adapter in adapters.children():
        fully_shard(adapter, **{**options, "reshard_after_forward": False})
    fully_shard(model, **options)
    model.register_forward_pre_hook(_gather_active)


def _gather_active(model: nn.Module, args: tuple[Any, ...]) -> None:
    """The active adapter's tensors are whole until its gradients have been reduced."""
    for adapter in getattr(model, ATTRIBUTE, nn.Module()).children():
        if isinstance(adapter, AttachedAdapter) and isinstance(adapter, FSDPModule) and adapter.is_active:
            adapter.unshard()
