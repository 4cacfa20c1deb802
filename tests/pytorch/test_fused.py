"""The one node that an adapter is in PyTorch's graph: what it adds to, keeps, casts, and its second derivative.

Its values and first gradients without a skip are compared with the reference in test_values.
"""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from compacter_core.adapter import Adapter, DType
from compacter_core.config import AdapterConfig, Projection, Site
from compacter_core.pytorch import AdapterModule, SiteAdapter
from compacter_core.pytorch.convert import to_array
from compacter_core.pytorch.functional import activate
from compacter_core.pytorch.fused import adapt
from compacter_core.pytorch.kernels import kernels_for
from compacter_core.pytorch.products import product_onto
from compacter_core.pytorch.site_tensors import Options
from compacter_core.reference.adapter import forward, vjp
from compacter_core.reference.bounds import forward_bound, vjp_bound, worst_ratio
from compacter_core.reference.initialise import initialise
from compacter_core.vocabulary import Activation, ProjectionKind, ScalingKind
from tests.pytorch.helpers import backward
from tests.support.strategies import adapter_configs, adapters, site_inputs

pytestmark = pytest.mark.usefixtures("arithmetic")

TORCH = {DType.F64: torch.float64, DType.F32: torch.float32, DType.BF16: torch.bfloat16}
ACCUMULATE = {DType.F64: DType.F64, DType.F32: DType.F32, DType.BF16: DType.F32}


def site_of(adapter: Adapter, dtype: DType) -> SiteAdapter:
    module = AdapterModule(adapter.config, adapter.tensors, dtype=TORCH[dtype])
    return module.at(adapter.config.sites[0].id)


def tensor(array: np.ndarray, dtype: DType) -> Tensor:
    return torch.from_numpy(np.array(array)).to(TORCH[dtype])


def as_float64(adapter: Adapter) -> Adapter:
    tensors = {name: array.astype(np.float64) for name, array in adapter.tensors.items()}
    return replace(adapter, tensors=tensors, dtype=DType.F64)


def compacter(d: int, k: int, kind: ProjectionKind = ProjectionKind.LPHM, n: int = 4) -> Adapter:
    """A fresh adapter with one site and rank 1."""
    projection = Projection(
        kind=kind, phm_dim=n if kind.has_rule else None, phm_rank=1 if kind.has_rank else None, shared_W=False
    )
    site = Site(id="encoder.0.ffn", bottleneck_size=k)
    config = AdapterConfig(method="m", name="a", hidden_size=d, projection=projection, sites=(site,))
    return Adapter(config=config, tensors=initialise(config, np.random.default_rng(0)), dtype=DType.F32)


def plain(site: SiteAdapter, x: Tensor) -> Tensor:
    """Delta by operations that PyTorch differentiates itself."""
    o: Tensor = site.up(activate(site.non_linearity, site.down(x)))
    return o * site.scaling


@pytest.mark.spec("FWD-2", "NUM-8")
@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("skips_x", [True, False])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_onto_a_skip(skips_x: bool, dtype: DType, data: st.DataObject) -> None:
    """The sum is rounded once, whether skip is much larger than delta or not; its gradient joins that of x."""
    config = data.draw(adapter_configs(max_sites=1, with_backbone=False))
    adapter = data.draw(adapters(config, dtype=dtype))
    parameters = as_float64(adapter).site(config.sites[0].id)
    x, other, g = data.draw(site_inputs(parameters, count=3, dtype=dtype, max_exponent=6))
    skip = x if skips_x else other
    accumulate = ACCUMULATE[dtype]
    x_torch = tensor(x, dtype).requires_grad_()
    skip_torch = x_torch if skips_x else tensor(skip, dtype).requires_grad_()
    got = site_of(adapter, dtype)(x_torch, skip_torch)
    x, skip, g = (array.astype(np.float64) for array in (x, skip, g))
    bound = forward_bound(parameters, x, skip, storage=dtype, accumulate=accumulate)
    assert worst_ratio(to_array(got, dtype), forward(parameters, x, skip), bound) <= 1

    got.backward(tensor(g, dtype))
    dx, bound = vjp(parameters, x, g).dx, vjp_bound(parameters, x, g, storage=dtype, accumulate=accumulate).dx
    if skips_x:
        dx = dx + g
        bound = (1 + dtype.roundoff) * bound + dtype.roundoff * np.abs(dx) + dtype.smallest_normal
    assert x_torch.grad is not None
    assert skip_torch.grad is not None
    assert worst_ratio(to_array(x_torch.grad, dtype), dx, bound) <= 1
    if not skips_x:
        np.testing.assert_array_equal(to_array(skip_torch.grad, dtype).astype(np.float64), g)


@pytest.mark.spec("NUM-8")
@pytest.mark.parametrize("rows", [1, 2, 3, 8, 33, 256])
@pytest.mark.parametrize("width", [2, 5, 24, 64, 128, 200])
@pytest.mark.parametrize("columns", [1, 4, 17, 192])
def test_a_product_goes_onto_a_large_skip_at_once(rows: int, width: int, columns: int) -> None:
    """One rounding at the size of the sum; those of the product are at the size of its terms, width + 1 of them."""
    generator = torch.Generator().manual_seed(rows + 1000 * width + columns)
    narrow, wide, skip = (
        torch.randn(shape, generator=generator) for shape in ((rows, width), (width, columns), (rows, columns))
    )
    skip *= 2.0**10
    y = product_onto(skip, narrow, wide, skip).double()
    exact = skip.double() + narrow.double() @ wide.double()
    u = DType.F32.roundoff
    bound = u * exact.abs() + (width + 1) * u / (1 - (width + 1) * u) * (narrow.double().abs() @ wide.double().abs())
    assert ((y - exact).abs() <= bound * (1 + 2 * u)).all()


@pytest.mark.spec("GRD-1", "NUM-9")
@pytest.mark.parametrize("autocast", [True, False])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_bfloat16_hidden_states_with_float32_tensors(autocast: bool, data: st.DataObject) -> None:
    """Inside autocast, or on a half-precision backbone, whether the backward pass runs inside too or not."""
    config = data.draw(adapter_configs(max_sites=1, with_backbone=False))
    adapter = data.draw(adapters(config, dtype=DType.BF16))
    parameters = as_float64(adapter).site(config.sites[0].id)
    x, g = data.draw(site_inputs(parameters, count=2, dtype=DType.BF16))
    site, x_torch = site_of(adapter, DType.F32), tensor(x, DType.BF16).requires_grad_()
    inside = data.draw(st.booleans())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got = site(x_torch)
        if inside:
            got.backward(tensor(g, DType.BF16))
    if not inside:
        got.backward(tensor(g, DType.BF16))
    x, g = x.astype(np.float64), g.astype(np.float64)
    expected, bounds = vjp(parameters, x, g), vjp_bound(parameters, x, g, storage=DType.BF16, accumulate=DType.F32)
    assert got.dtype is torch.bfloat16
    assert x_torch.grad is not None
    assert worst_ratio(to_array(x_torch.grad, DType.BF16), expected.dx, bounds.dx) <= 1
    for projection, values, errors in (
        (site.down, expected.down, bounds.down),
        (site.up, expected.up, bounds.up),
    ):
        for name, parameter in projection.named_parameters(recurse=False):
            assert parameter.grad is not None
            assert parameter.grad.dtype is torch.float32
            assert worst_ratio(to_array(parameter.grad, DType.F32), values[name], errors[name]) <= 1, name


@pytest.mark.parametrize("kind", ProjectionKind)
def test_autocast_chooses_the_type_of_products_and_nothing_else(kind: ProjectionKind) -> None:
    """What is narrow stays float32, in both directions: the same bits as with that type chosen outside of autocast."""
    x, g = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    options = Options(Activation.GELU_NEW, 1.0, torch.bfloat16)
    results = []
    for inside in (True, False):
        site = site_of(compacter(32, 8, kind), DType.F32)
        x_torch = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            y = site(x_torch, x_torch) if inside else adapt(x_torch, x_torch, site.site_tensors(), options)
            y.backward(g)
        results.append([y, x_torch.grad, *(parameter.grad for parameter in site.parameters())])
    for one, other in zip(*results, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


KEPT_WIDTHS = {ProjectionKind.DENSE: 32, ProjectionKind.LOW_RANK: 17, ProjectionKind.PHM: 16, ProjectionKind.LPHM: 20}
KEPT_MIXINGS = {ProjectionKind.DENSE: 0, ProjectionKind.LOW_RANK: 0, ProjectionKind.PHM: 2**3, ProjectionKind.LPHM: 64}


KEPT_BY_KERNELS = {ProjectionKind.LOW_RANK: 1, ProjectionKind.LPHM: 4}


@pytest.mark.parametrize("kind", ProjectionKind)
def test_what_is_kept(kind: ProjectionKind, arithmetic: str) -> None:
    """Beyond x and the parameters: a [k = 16], u [k, r = 1 or n^2 r = 4] where it is no wider, and both mixings.

    Kernels keep u alone.
    """
    rows, site = 32, site_of(compacter(64, 16, kind, n=2), DType.F32)
    x = torch.randn(rows, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    known = {t.untyped_storage().data_ptr() for t in (x, *site.parameters())}
    known |= {t.untyped_storage().data_ptr() for p in (site.down, site.up) for t in p.tensors().values()}
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return saved

    with saved_tensors_hooks(pack, lambda saved: saved):
        y = site(x, x)
    width, mixings = KEPT_WIDTHS[kind], KEPT_MIXINGS[kind]
    if arithmetic == "kernels" and kernels_for(x) is not None:
        width, mixings = KEPT_BY_KERNELS.get(kind, width), 0 if kind in KEPT_BY_KERNELS else mixings
    assert sum(kept.values()) == (rows * width + 2 * mixings) * 4
    assert y.requires_grad


@pytest.mark.parametrize("activation", [Activation.RELU, Activation.IDENTITY])
@pytest.mark.parametrize("kind", ProjectionKind)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_second_derivative(kind: ProjectionKind, activation: Activation, data: st.DataObject) -> None:
    """That of plain operations, exactly so for small integers."""
    config = data.draw(adapter_configs(kind=kind, non_linearity=activation, max_sites=1, with_backbone=False))
    scaling = ScalingKind.CHANNEL if data.draw(st.booleans()) else 2.0
    adapter = data.draw(adapters(replace(config, scaling=scaling), dtype=DType.F64, integers=True))
    x, g, w = data.draw(site_inputs(adapter.site(config.sites[0].id), count=3, integers=True))

    def derivatives(fused: bool) -> list[Tensor]:
        site, x_torch, g_torch = site_of(adapter, DType.F64), tensor(x, DType.F64), tensor(g, DType.F64)
        owned = [p for projection in (site.down, site.up) for p in projection.tensors().values()]
        inputs = [x_torch.requires_grad_(), g_torch.requires_grad_(), *owned]
        y = site(x_torch, x_torch) if fused else x_torch + plain(site, x_torch)
        dx, *rest = torch.autograd.grad(y, [x_torch, *owned], g_torch, create_graph=True, allow_unused=True)
        objective = (dx * tensor(w, DType.F64)).sum() + sum((one * one).sum() for one in rest if one is not None)
        second = torch.autograd.grad(objective, inputs, allow_unused=True)
        return [torch.zeros(()) if one is None else one for one in second]

    for got, expected in zip(derivatives(fused=True), derivatives(fused=False), strict=True):
        assert torch.equal(got.expand_as(expected) if got.dim() == 0 else got, expected.expand_as(got))


def test_second_derivative_of_the_activation() -> None:
    """PyTorch's own check of a second derivative, by differences, for a curved activation."""
    site = site_of(compacter(8, 4, n=2), DType.F64)
    with torch.no_grad():
        for parameter in site.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda value: site(value, value), [x])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_without_gradients(data: st.DataObject) -> None:
    """The same bits without a graph, and the same gradients of tensors where x needs none."""
    config = data.draw(adapter_configs(max_sites=1, with_backbone=False))
    adapter = data.draw(adapters(config, dtype=DType.F32))
    (x,) = data.draw(site_inputs(adapter.site(config.sites[0].id), dtype=DType.F32))
    gradients = []
    for needs in (True, False):
        site = site_of(adapter, DType.F32)
        x_torch = tensor(x, DType.F32).requires_grad_(needs)
        y = site(x_torch, x_torch)
        backward(y.sum())
        gradients.append([cast(Tensor, p.grad) for p in site.parameters()])
        with torch.no_grad():
            assert torch.equal(site(x_torch, x_torch), y)
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
