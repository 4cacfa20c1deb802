"""One course of training, the same for one process and for several: what it leaves has to be the same too.

One process takes the parts of each batch one after the other and adds their gradients; each of several takes its own
part. With two parts that is one sum of two terms, and halving is exact: the results are equal bit for bit.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from compacter_core.adapter import Adapter
from compacter_core.pytorch import AttachedAdapter, detach, get_adapter, save_pretrained, set_active
from compacter_core.pytorch.distributed import whole
from tests.distributed.launch import PROCESSES
from tests.pytorch.helpers import attach_trained, backward, logits, tiny_adapter_config
from tests.support.models import tiny_inputs, tiny_model

Wrap = Callable[[Any], Any]
ROWS = 2


def build(dtype: torch.dtype, *, bare: bool = False) -> Any:
    """A model with two adapters that share a rule among their sites; the second one is active."""
    model = tiny_model("bert").to(dtype)
    for seed, name in enumerate(() if bare else ("first", "second")):
        attach_trained(model, tiny_adapter_config(model, name=name), seed=seed)
    return model


def batch(part: int) -> dict[str, torch.Tensor]:
    """One process' rows of a batch."""
    return {**tiny_inputs(batch=ROWS, seed=part), "labels": torch.tensor([part, 2])}


def gradients(model: Any) -> dict[str, torch.Tensor]:
    """Of all that trains, whole."""
    return {name: whole(p.grad).clone() for name, p in model.named_parameters() if p.grad is not None}


def accumulate(forward: Any, parts: Sequence[int]) -> None:
    """The gradient of the mean loss over these parts."""
    for part in parts:
        backward(forward(**batch(part)).loss / len(parts))


def run(model: Any, wrap: Wrap, parts: Sequence[int], folder: Path) -> dict[str, Any]:
    """Trains one adapter, then the other, loads, and detaches; says what could be seen on the way."""
    forward = wrap(model)
    seen: dict[str, Any] = {"second": _train(model, forward, parts), "logits": _logits(model)}
    set_active(model, "first")
    seen["first"] = _train(model, wrap(model), parts)
    for name in ("first", "second"):
        save_pretrained(model, folder / name, name)
    seen["moved"] = _logits(model)
    active = get_adapter(model)
    active.load(_halved(active))
    save_pretrained(model, folder / "halved")
    seen["halved"] = _logits(model)
    set_active(model, None)
    seen["none"] = _logits(model)
    detach(model)
    seen["backbone"] = {name: whole(parameter).clone() for name, parameter in model.named_parameters()}
    return seen


def _train(model: Any, forward: Any, parts: Sequence[int]) -> dict[str, torch.Tensor]:
    """Two steps; the gradients of the first."""
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, foreach=False)
    model.zero_grad()
    accumulate(forward, parts)
    first = gradients(model)
    optimiser.step()
    model.zero_grad()
    accumulate(forward, parts)
    optimiser.step()
    return first


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return logits(model, tiny_inputs()).clone()


def _halved(attached: AttachedAdapter) -> Adapter:
    adapter = attached.to_adapter()
    tensors = {name: array / 2 for name, array in adapter.tensors.items()}
    return Adapter(config=adapter.config, tensors=tensors, sketches=adapter.sketches, dtype=adapter.dtype)


ALL_PARTS = tuple(range(PROCESSES))
