"""What test_triton runs in Triton's interpreter: the adapter through the kernels, on CPU tensors.

The interpreter must be chosen before Triton is imported, so that these checks have a process of their own.
"""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from compacter_core.adapter import DType
from compacter_core.pytorch import fused
from compacter_core.pytorch.convert import to_array
from compacter_core.pytorch.kernels import triton_adapter
from compacter_core.reference.adapter import forward, vjp
from compacter_core.reference.bounds import forward_bound, vjp_bound, worst_ratio
from compacter_core.vocabulary import Activation, ProjectionKind, ScalingKind
from tests.pytorch.helpers import backward
from tests.pytorch.test_fused import as_float64, compacter, site_of, tensor
from tests.support.strategies import adapter_configs, adapters, site_inputs


class Counted:
    """The kernels' module, and how often it was called."""

    supports = staticmethod(triton_adapter.supports)

    def __init__(self) -> None:
        self.calls: list[str] = []

    def forward(self, *arguments: Any) -> Any:
        self.calls.append("forward")
        return triton_adapter.forward(*arguments)

    def backward(self, *arguments: Any, adds_g: bool) -> Any:
        self.calls.append("backward")
        return triton_adapter.backward(*arguments, adds_g=adds_g)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Lets the kernels serve CPU tensors."""
    counted = Counted()
    monkeypatch.setattr(fused, "kernels_for", lambda x: counted)
    return counted


@pytest.mark.parametrize("dtype", [DType.F32, DType.BF16])
@pytest.mark.parametrize("non_linearity", triton_adapter.ACTIVATIONS)
@pytest.mark.parametrize("kind", [ProjectionKind.LPHM, ProjectionKind.LOW_RANK])
def test_values_and_gradients(kind: ProjectionKind, non_linearity: Activation, dtype: DType, kernels: Counted) -> None:
    @settings(max_examples=4, deadline=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        config = data.draw(adapter_configs(kind=kind, non_linearity=non_linearity, max_sites=1, with_backbone=False))
        assume(not isinstance(config.scaling, ScalingKind))
        adapter = data.draw(adapters(config, dtype=dtype))
        parameters = as_float64(adapter).site(config.sites[0].id)
        x, skip, g = data.draw(site_inputs(parameters, count=3, dtype=dtype))
        skips_x = data.draw(st.booleans())
        x_torch = tensor(x, dtype).requires_grad_()
        skip_torch = x_torch if skips_x else tensor(skip, dtype)
        site = site_of(adapter, dtype)
        kernels.calls.clear()
        y = site(x_torch, skip_torch)
        y.backward(tensor(g, dtype))
        assert kernels.calls == ["forward", "backward"]

        x, skip, g = (array.astype(np.float64) for array in (x, x if skips_x else skip, g))
        bound = forward_bound(parameters, x, skip, storage=dtype, accumulate=DType.F32)
        assert worst_ratio(to_array(y, dtype), forward(parameters, x, skip), bound) <= 1
        expected, bounds = vjp(parameters, x, g), vjp_bound(parameters, x, g, storage=dtype, accumulate=DType.F32)
        dx, dx_bound = expected.dx, bounds.dx
        if skips_x:
            dx = dx + g
            dx_bound = (1 + dtype.roundoff) * dx_bound + dtype.roundoff * np.abs(dx) + dtype.smallest_normal
        assert x_torch.grad is not None
        assert worst_ratio(to_array(x_torch.grad, dtype), dx, dx_bound) <= 1
        for projection, values, errors in (
            (site.down, expected.down, bounds.down),
            (site.up, expected.up, bounds.up),
        ):
            for name, parameter in projection.named_parameters(recurse=False):
                assert parameter.grad is not None
                assert worst_ratio(to_array(parameter.grad, dtype), values[name], errors[name]) <= 1, name

    check()


@pytest.mark.parametrize(("d", "k"), [(768, 24), (200, 40)])
def test_more_than_one_chunk(d: int, k: int, kernels: Counted) -> None:
    """Blocks longer than a chunk, and more rows than a program takes: within the bound of the plain operations."""
    adapter = compacter(d, k)
    parameters = as_float64(adapter).site("encoder.0.ffn")
    generator = np.random.default_rng(0)
    x, g = (generator.standard_normal((21, d)).astype(np.float32) for _ in range(2))
    x_torch = torch.from_numpy(x).requires_grad_()
    site = site_of(adapter, DType.F32)
    y = site(x_torch, x_torch)
    y.backward(torch.from_numpy(g))
    assert kernels.calls == ["forward", "backward"]
    x, g = x.astype(np.float64), g.astype(np.float64)
    bound = forward_bound(parameters, x, x, storage=DType.F32, accumulate=DType.F32)
    assert worst_ratio(to_array(y, DType.F32), forward(parameters, x, x), bound) <= 1
    dx = vjp(parameters, x, g).dx + g
    u = DType.F32.roundoff
    bound = (1 + u) * vjp_bound(parameters, x, g, storage=DType.F32, accumulate=DType.F32).dx + u * np.abs(dx)
    assert x_torch.grad is not None
    assert worst_ratio(to_array(x_torch.grad, DType.F32), dx, bound) <= 1


@pytest.mark.parametrize("kind", [ProjectionKind.DENSE, ProjectionKind.PHM])
def test_other_kinds_take_the_plain_operations(kind: ProjectionKind, kernels: Counted) -> None:
    x = torch.ones(2, 16, requires_grad=True)
    backward(site_of(compacter(16, 4, kind), DType.F32)(x, x).sum())
    assert kernels.calls == []


def test_second_derivatives_take_the_plain_operations(kernels: Counted) -> None:
    site = site_of(compacter(16, 4), DType.F32)
    x = torch.ones(2, 16, requires_grad=True)
    (dx,) = torch.autograd.grad(site(x, x).sum(), [x], create_graph=True)
    backward(dx.sum())
    assert kernels.calls == ["forward"]
