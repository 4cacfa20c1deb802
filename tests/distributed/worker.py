"""What each of two processes does: the course under every way to spread it, results into files."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from compacter_core.pytorch.sharding import shard
from tests.distributed.course import build, run
from tests.distributed.launch import PROCESSES


def ddp(model: Any) -> Any:
    return DistributedDataParallel(model)


def plain_fsdp(model: Any) -> Any:
    """As transformers' users and accelerate do it: layers, then the whole; the adapter is in the outermost group."""
    if not hasattr(model, "reshard"):
        mesh = init_device_mesh("cpu", (PROCESSES,))
        for layer in model.bert.encoder.layer:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    return model


def own_fsdp(model: Any) -> Any:
    if not hasattr(model, "reshard"):
        shard(model, mesh=init_device_mesh("cpu", (PROCESSES,)))
    return model


CASES = {
    "ddp": (ddp, torch.float64),
    "fsdp2": (plain_fsdp, torch.float64),
    "shard": (own_fsdp, torch.float64),
    "shard-half": (own_fsdp, torch.bfloat16),
}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    for name, (wrap, dtype) in CASES.items():
        # Each process has a folder of its own, to see who writes.
        target = folder / name / str(rank)
        seen = run(build(dtype), wrap, (rank,), target)
        torch.save(seen, folder / f"{name}-{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
