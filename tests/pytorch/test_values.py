"""The PyTorch adapter computes what the reference computes: values and gradients within the derived bounds."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.config import AdapterConfig, Projection, Site
from compacter_core.layout import Side, projection_names, scaling_name
from compacter_core.pytorch import AdapterModule, functional
from compacter_core.pytorch.convert import to_array
from compacter_core.reference.adapter import Gradients, delta, vjp
from compacter_core.reference.bounds import delta_bound, vjp_bound, worst_ratio
from compacter_core.reference.initialise import initialise
from compacter_core.reference.projection import weight
from compacter_core.vocabulary import Activation, ProjectionKind
from tests.support.arrays import round_to
from tests.support.strategies import adapter_configs, adapters, site_inputs

pytestmark = pytest.mark.usefixtures("arithmetic")

TORCH = {DType.F64: torch.float64, DType.F32: torch.float32, DType.BF16: torch.bfloat16}
# PyTorch keeps the sums of bfloat16 products in float32.
ACCUMULATE = {DType.F64: DType.F64, DType.F32: DType.F32, DType.BF16: DType.F32}


def build(adapter: Adapter, dtype: DType) -> AdapterModule:
    return AdapterModule(adapter.config, adapter.tensors, dtype=TORCH[dtype])


def tensor(array: Array, dtype: DType) -> torch.Tensor:
    return torch.from_numpy(np.array(array)).to(TORCH[dtype])


@pytest.mark.spec("FWD-1", "NUM-1")
@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("non_linearity", Activation)
@pytest.mark.parametrize("kind", ProjectionKind)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_delta(kind: ProjectionKind, non_linearity: Activation, dtype: DType, data: st.DataObject) -> None:
    config = data.draw(adapter_configs(kind=kind, non_linearity=non_linearity, max_sites=1, with_backbone=False))
    adapter = data.draw(adapters(config, dtype=dtype))
    site = adapter.site(config.sites[0].id)
    (x,) = data.draw(site_inputs(site, dtype=dtype))
    module = build(adapter, dtype)
    wide = x.astype(np.float64)
    expected = delta(_float64(adapter).site(config.sites[0].id), wide)
    bound = delta_bound(site, wide, storage=dtype, accumulate=ACCUMULATE[dtype])
    got = module.at(config.sites[0].id)(tensor(x, dtype))
    assert got.dtype is TORCH[dtype]
    assert worst_ratio(to_array(got, dtype), expected, bound) <= 1
    with module.materialise():
        got = module.at(config.sites[0].id)(tensor(x, dtype))
    assert worst_ratio(to_array(got, dtype), expected, bound) <= 1


@pytest.mark.spec("GRD-1", "NUM-9")
@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("kind", ProjectionKind)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_gradients(kind: ProjectionKind, dtype: DType, data: st.DataObject) -> None:
    """Of every tensor, shared ones summed over their users, and of the input."""
    config = data.draw(adapter_configs(kind=kind, max_sites=2, with_backbone=False))
    adapter = data.draw(adapters(config, dtype=dtype))
    module = build(adapter, dtype)
    expected: dict[str, list[tuple[Array, Array]]] = {}
    for site in config.sites:
        parameters = _float64(adapter).site(site.id)
        x, g = data.draw(site_inputs(parameters, count=2, dtype=dtype))
        x_torch = tensor(x, dtype).requires_grad_()
        module.at(site.id)(x_torch).backward(tensor(g, dtype))
        x, g = x.astype(np.float64), g.astype(np.float64)
        gradients = vjp(parameters, x, g)
        bounds = vjp_bound(parameters, x, g, storage=dtype, accumulate=ACCUMULATE[dtype])
        assert x_torch.grad is not None
        assert worst_ratio(to_array(x_torch.grad, dtype), gradients.dx, bounds.dx) <= 1
        for name, pair in _by_full_name(config, site, gradients, bounds):
            expected.setdefault(name, []).append(pair)
    for name, parameter in module.tensor_parameters().items():
        terms = expected[name]
        total = np.sum([value for value, _ in terms], axis=0)
        # Each addition of one more user's gradient rounds once.
        additions = (len(terms) - 1) * 2 * dtype.roundoff
        bound = sum(error + additions * (np.abs(value) + error) for value, error in terms)
        assert parameter.grad is not None
        assert worst_ratio(to_array(parameter.grad, dtype), total, np.asarray(bound)) <= 1, name


@pytest.mark.spec("GRD-12")
@given(data=st.data())
def test_the_gradient_of_the_skip_is_the_cotangent_and_adds_to_that_of_x(data: st.DataObject) -> None:
    """On small integers every sum is exact."""
    config = data.draw(adapter_configs(non_linearity=Activation.RELU, max_sites=1, with_backbone=False))
    config = replace(config, scaling=1.0)
    adapter = data.draw(adapters(config, dtype=DType.F64, integers=True))
    site = adapter.site(config.sites[0].id)
    x, g = data.draw(site_inputs(site, count=2, integers=True))
    dx = vjp(site, x, g).dx
    module = build(adapter, DType.F64).at(config.sites[0].id)
    one, skip, both = (tensor(x, DType.F64).requires_grad_() for _ in range(3))
    (skip + module(one)).backward(tensor(g, DType.F64))
    (both + module(both)).backward(tensor(g, DType.F64))
    for variable, expected in ((one, dx), (skip, g), (both, g + dx)):
        assert variable.grad is not None
        np.testing.assert_array_equal(variable.grad.numpy(), expected)


@pytest.mark.spec("FWD-9", "FWD-10")
@pytest.mark.parametrize("kind", ProjectionKind)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_weight(kind: ProjectionKind, data: st.DataObject) -> None:
    """The materialised weight is the reference's, exactly so for small integers."""
    config = data.draw(adapter_configs(kind=kind, max_sites=1, with_backbone=False))
    adapter = data.draw(adapters(config, dtype=DType.F64, integers=True))
    parameters = adapter.site(config.sites[0].id).down
    tensors = build(adapter, DType.F64).at(config.sites[0].id).down.tensors()
    np.testing.assert_array_equal(functional.weight(kind, tensors).detach().numpy(), weight(parameters))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_autocast(data: st.DataObject) -> None:
    """Under autocast, products see tensors rounded to bfloat16, and biases keep their float32 values."""
    config = data.draw(adapter_configs(kind=ProjectionKind.LPHM, max_sites=1, with_backbone=False))
    config = replace(config, projection=replace(config.projection, factorized_phm_rule=False), scaling=1.0)
    adapter = data.draw(adapters(config, dtype=DType.F32))
    site_id = config.sites[0].id
    (x,) = data.draw(site_inputs(adapter.site(site_id), dtype=DType.BF16))
    rounded = {
        name: array if name.endswith(".b") else round_to(array, DType.BF16) for name, array in adapter.tensors.items()
    }
    parameters = replace(adapter, tensors=rounded).site(site_id)
    with torch.autocast("cpu", torch.bfloat16):
        got = build(adapter, DType.F32).at(site_id)(tensor(x, DType.BF16))
    bound = delta_bound(parameters, x, storage=DType.BF16, accumulate=DType.F32)
    expected = delta(_float64(replace(adapter, tensors=rounded)).site(site_id), x.astype(np.float64))
    assert worst_ratio(to_array(got, DType.BF16), expected, bound) <= 1


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's annotations lack it
    """Sees the element count of every tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.numel = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numel = max(self.numel, result.numel())
        return result


@pytest.mark.parametrize("kind", [ProjectionKind.LPHM, ProjectionKind.PHM])
def test_no_kronecker_product_in_forward_and_backward(kind: ProjectionKind) -> None:
    """Nothing of the size of W is made: the largest are the file's, a bias beside one, the tokens', a mixing matrix.

    Kernels have all of these, twice, in one piece of memory.
    """
    d, k, n = 256, 64, 4
    projection = Projection(kind=kind, phm_dim=n, phm_rank=1 if kind.has_rank else None, shared_phm_rule=True)
    site = Site(id="encoder.0.ffn", bottleneck_size=k)
    config = AdapterConfig(method="m", name="a", hidden_size=d, projection=projection, sites=(site,))
    module = AdapterModule(config, initialise(config, np.random.default_rng(0)))
    largest_parameter = max(parameter.numel() for parameter in module.parameters())
    with _Largest() as seen:
        module.at(site.id)(torch.ones(1, d, requires_grad=True)).sum().backward()
    largest = max(largest_parameter + d, n * d, 2 * n * n * k)
    together = 2 * (sum(parameter.numel() for parameter in module.parameters()) + 3 * n * n * k)
    assert seen.numel <= (max(largest, together) if kind.has_rank else largest) < d * k


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_strided_inputs(data: st.DataObject) -> None:
    """A transposed and a sliced input give what a contiguous copy gives."""
    adapter = data.draw(adapters(data.draw(adapter_configs(max_sites=1, with_backbone=False)), dtype=DType.F64))
    module, site = build(adapter, DType.F64), adapter.config.sites[0]
    x = torch.randn(adapter.config.hidden_size, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    strided = x.permute(2, 1, 0)[::2]
    parameters = adapter.site(site.id)
    bound = delta_bound(parameters, strided.numpy(), storage=DType.F64, accumulate=DType.F64)
    got = module.at(site.id)(strided).detach().numpy()
    assert worst_ratio(got, delta(parameters, strided.numpy()), bound) <= 1


def _float64(adapter: Adapter) -> Adapter:
    tensors = {name: array.astype(np.float64) for name, array in adapter.tensors.items()}
    return Adapter(config=adapter.config, tensors=tensors, dtype=DType.F64)


def _by_full_name(
    config: AdapterConfig, site: Site, values: Gradients, bounds: Gradients
) -> list[tuple[str, tuple[Array, Array]]]:
    pairs = []
    for side in Side:
        names = projection_names(config, site, side).tensors
        of_value: dict[str, Array] = getattr(values, side.value)
        of_bound: dict[str, Array] = getattr(bounds, side.value)
        assert set(names) == set(of_value) == set(of_bound)
        pairs += [(names[short], (of_value[short], of_bound[short])) for short in names]
    if values.scaling is not None and bounds.scaling is not None:
        pairs.append((scaling_name(site), (values.scaling, bounds.scaling)))
    assert len(fields(values)) == 4
    return pairs
