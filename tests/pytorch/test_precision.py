"""Whole models in bfloat16, under autocast and compiled: each site computes what the reference does with its input."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from compacter_core.adapter import Array, DType
from compacter_core.config import ATTACH_PRESETS
from compacter_core.pytorch import AttachedAdapter
from compacter_core.reference.adapter import forward
from compacter_core.reference.bounds import forward_bound, worst_ratio
from tests.pytorch.helpers import attach_trained, backward, logits, tiny_adapter_config
from tests.support.models import tiny_inputs, tiny_model

Seen = dict[str, tuple[torch.Tensor, ...]]


def watch(attached: AttachedAdapter) -> Seen:
    """Fills up with x, skip and the result of each site."""
    seen: Seen = {}

    def see(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            seen[name] = (*args, output)

        return hook

    for site in attached.config.sites:
        attached.at(site.id).register_forward_hook(see(site.id))
    return seen


def check(attached: AttachedAdapter, seen: Seen, storage: DType, accumulate: DType) -> None:
    """Within the bound of these types."""
    adapter = attached.to_adapter()
    assert set(seen) == {site.id for site in adapter.config.sites}
    for name, values in seen.items():
        x, skip, got = (_array(value) for value in values)
        site = adapter.site(name)
        bound = forward_bound(site, x, skip, storage=storage, accumulate=accumulate)
        ratio = worst_ratio(got, forward(site, x, skip), bound)
        assert ratio <= 1, f"{name}: error/bound {ratio}"
        assert np.abs(got - skip).max() > 1e-3, "the adapter does something"


def _array(value: torch.Tensor) -> Array:
    return value.detach().double().numpy()


@pytest.mark.spec("NUM-8")
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
@pytest.mark.parametrize("half", ["autocast", "backbone"])
def test_half_precision(half: str, preset: str) -> None:
    """The adapter is float32 in either; what it sees and gives is bfloat16."""
    model, inputs = tiny_model("bert"), tiny_inputs()
    model = model.bfloat16() if half == "backbone" else model
    attached = attach_trained(model, tiny_adapter_config(model, attach=ATTACH_PRESETS[preset]))
    with torch.no_grad():
        for parameter in attached.parameters():
            # Values that bfloat16 has: casting them is not the error that is asked about.
            parameter.copy_(parameter.bfloat16())
    seen = watch(attached)
    with torch.autocast("cpu", torch.bfloat16, enabled=half == "autocast"):
        output = logits(model, inputs)
    assert output.dtype is torch.bfloat16
    check(attached, seen, DType.BF16, DType.F32)
    backward(output.float().sum())
    assert all(parameter.grad is not None for parameter in attached.parameters())


def test_compiled_to_machine_code() -> None:
    """Values of every site within the bound; gradients as near as another order of summation brings them.

    The scale for that is what single precision would do to the same gradient: in double precision it has to stay below.
    """
    torch.compiler.reset()
    model, inputs = tiny_model("bert", layers=1), tiny_inputs()
    attached = attach_trained(model)
    single = _gradients(model, model, inputs)
    wanted = _gradients(model.double(), model, inputs)
    seen = watch(attached)
    got = _gradients(model, torch.compile(model), inputs)
    check(attached, seen, DType.F64, DType.F64)
    assert wanted.keys() == got.keys()
    for name, gradient in wanted.items():
        assert (got[name] - gradient).abs().max() <= (single[name] - gradient).abs().max(), name


def _gradients(model: Any, call: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    backward(call(**inputs)[0].square().sum())
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
