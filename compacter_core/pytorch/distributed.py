"""Parameters that several processes hold together: their whole values, and who writes files.

Plain parameters, as under DDP, are whole in every process, and nothing here communicates. FSDP2 (`fully_shard`) makes
them DTensors, DeepSpeed's ZeRO-3 parameters with a `ds_id`: there every process has to take part in `whole`, and under
ZeRO-3 in `assign` too, in the same order.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn


def whole(tensor: Tensor) -> Tensor:
    """A tensor's whole values, gathered from the processes where it is sharded; detached, perhaps not a copy."""
    if _is_dtensor(tensor):
        gathered: Tensor = tensor.detach().full_tensor()  # type: ignore[attr-defined]  # DTensor's
        return gathered
    with _gathered(tensor, writes=False):
        return tensor.detach().clone() if is_partitioned(tensor) else tensor.detach()


def assign(target: Tensor, source: Tensor) -> None:
    """Gives `target` the whole values of `source`, rounded to its data type; a sharded target keeps its own part."""
    with torch.no_grad(), _gathered(target, writes=True):
        target.copy_(_sharded_like(target, source) if _is_dtensor(target) else source)


def whole_shape(tensor: Tensor) -> tuple[int, ...]:
    """Shape of the whole tensor."""
    return tuple(getattr(tensor, "ds_shape", tensor.shape))


def reshard(model: nn.Module) -> None:
    """Puts FSDP2's parameters, which may stay gathered after a forward pass, back into their shards.

    What is written into a gathered one would be lost, and what is read might be older than the last step.
    """
    for module in model.modules():
        if callable(getattr(module, "reshard", None)):
            module.reshard()  # type: ignore[operator]  # FSDPModule's


def class_name(model: nn.Module) -> str:
    """Name of the model's class, also where FSDP2 has made a class of its own of it, `FSDP<name>`."""
    own = [kind for kind in type(model).__mro__ if not kind.__name__.startswith("FSDP")]
    return own[0].__name__


def is_first_process() -> bool:
    """Whether this is the process that writes files and reports: the first one, or the only one."""
    rank = distributed.get_rank() if _is_started() else int(os.environ.get("RANK", "0"))
    return rank == 0


def process_count() -> int:
    """How many processes share the work; torchrun and accelerate tell before the processes have met."""
    return distributed.get_world_size() if _is_started() else int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all() -> None:
    """Waits until every process has come here."""
    if _is_started():
        distributed.barrier()


def is_partitioned(tensor: Tensor) -> bool:
    """Whether ZeRO-3 holds the tensor, whose local shape is then empty between its uses."""
    return hasattr(tensor, "ds_id")


def _is_started() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _is_dtensor(tensor: Tensor) -> bool:
    # By its method: importing the class takes a second that those who shard nothing need not spend.
    return hasattr(tensor, "full_tensor")


def _sharded_like(target: Any, source: Tensor) -> Tensor:
    """The source as a DTensor. Every process has its values, so nothing is sent."""
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415 slow to import, and there whenever needed

    values = source.to(target.device, target.dtype)
    return distribute_tensor(values, target.device_mesh, target.placements, src_data_rank=None)


@contextmanager
def _gathered(tensor: Tensor, *, writes: bool) -> Iterator[None]:
    """Inside the context a tensor of ZeRO-3 is whole; with `writes`, the first process' changes are everybody's."""
    if not is_partitioned(tensor):
        yield
        return
    import deepspeed  # noqa: PLC0415 optional, and there whenever such a parameter is

    gathered: Any = deepspeed.zero.GatheredParameters([tensor], modifier_rank=0 if writes else None)
    with gathered:
        yield
