"""What each of two processes does under DeepSpeed's ZeRO-3: one step in two data types, files, loading."""

import sys
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.utils import safe_get_full_grad
from torch import distributed

from compacter_core.pytorch import get_adapter, save_pretrained
from tests.distributed.course import accumulate, build
from tests.pytorch.helpers import logits
from tests.support.models import tiny_inputs

LEARNING_RATE = 0.5  # a power of two: the product with the gradient is exact


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    for dtype in (torch.float64, torch.float32):
        name = str(dtype).removeprefix("torch.")
        seen = _step(dtype, folder / name / str(distributed.get_rank()))
        torch.save(seen, folder / f"{name}-{distributed.get_rank()}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def _step(dtype: torch.dtype, folder: Path) -> dict[str, Any]:
    model = build(torch.float64).to(dtype)
    before = get_adapter(model).to_adapter()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    options = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 0.0,
    }
    optimiser = torch.optim.SGD(trained.values(), lr=LEARNING_RATE)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimiser, config=options, dist_init_required=False)
    assert {parameter.numel() for parameter in model.parameters()} == {0}, "everything is sharded"
    accumulate(_Engine(engine), (distributed.get_rank(),))
    seen: dict[str, Any] = {name: safe_get_full_grad(parameter).clone() for name, parameter in trained.items()}
    engine.step()
    save_pretrained(model, folder / "stepped")
    get_adapter(model).load(before)
    save_pretrained(model, folder / "before")
    with torch.no_grad():
        return {"gradients": seen, "logits": logits(engine, tiny_inputs()).clone()}


class _Engine:
    """Makes the loss' backward pass DeepSpeed's."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __call__(self, **batch: torch.Tensor) -> Any:
        output = self._engine(**batch)
        output.loss = _Loss(self._engine, output.loss)
        return output


class _Loss:
    def __init__(self, engine: Any, value: torch.Tensor) -> None:
        self._engine, self._value = engine, value

    def __truediv__(self, parts: int) -> "_Loss":
        return _Loss(self._engine, self._value / parts)

    def backward(self) -> None:
        self._engine.backward(self._value)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
