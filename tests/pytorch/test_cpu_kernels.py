"""The kernels for CPUs: that they serve, many rows and threads, values at the edges, and life without a compiler.

What they compute for small drawn shapes is compared with the reference in test_values and test_fused.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compacter_core import native
from compacter_core.adapter import DType
from compacter_core.pytorch import SiteAdapter
from compacter_core.pytorch.convert import to_array
from compacter_core.pytorch.kernels import cpu_adapter, kernels_for, library
from compacter_core.reference.adapter import forward, vjp
from compacter_core.reference.bounds import forward_bound, vjp_bound, worst_ratio
from compacter_core.vocabulary import Activation, ProjectionKind
from tests.pytorch.helpers import backward
from tests.pytorch.test_fused import as_float64, compacter, plain, site_of
from tests.support.compilers import needs_compiler


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """That many threads of PyTorch during a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@needs_compiler
def test_they_serve_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients come from the library, and neither of what is not float32 nor of a second derivative."""
    calls: list[str] = []
    for name in ("forward", "backward"):
        original = getattr(cpu_adapter.CpuKernels, name)

        def counted(*arguments: Any, _name: str = name, _original: Any = original, **options: Any) -> Any:
            calls.append(_name)
            return _original(*arguments, **options)

        monkeypatch.setattr(cpu_adapter.CpuKernels, name, counted)
    site, x = site_of(compacter(16, 4), DType.F32), torch.ones(2, 16, requires_grad=True)
    with torch.no_grad():
        site(x, x)
    backward(site(x, x).sum())
    assert calls == ["forward", "forward", "backward"]
    (dx,) = torch.autograd.grad(site(x, x).sum(), [x], create_graph=True)
    backward(dx.sum())
    assert calls == ["forward", "forward", "backward", "forward"]
    backward(site(x.bfloat16(), x.bfloat16()).sum())
    backward(site_of(compacter(16, 4, ProjectionKind.PHM), DType.F32)(x, x).sum())
    assert len(calls) == 4


@pytest.mark.spec("FWD-2", "NUM-8", "NUM-11")
@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("kind", [ProjectionKind.LPHM, ProjectionKind.LOW_RANK])
@pytest.mark.parametrize(("rows", "d", "k"), [(70, 768, 24), (301, 200, 40), (2, 8192, 64), (5000, 20, 4)])
def test_many_rows_on_several_threads(rows: int, d: int, k: int, kind: ProjectionKind, threads: int) -> None:
    """Chunks, tiles and vectors that stick out: within the bound, and the same bits again."""
    generator = np.random.default_rng(rows)
    fresh = compacter(d, k, kind)
    tensors = {name: array + 0.1 * generator.standard_normal(array.shape) for name, array in fresh.tensors.items()}
    adapter = replace(fresh, tensors={name: array.astype(np.float32) for name, array in tensors.items()})
    x, g = (generator.standard_normal((rows, d)).astype(np.float32) for _ in range(2))
    site, parameters = site_of(adapter, DType.F32), as_float64(adapter).site("encoder.0.ffn")

    y, dx, gradients = _both_ways(site, x, g)
    again = _both_ways(site, x, g)
    assert torch.equal(y, again[0])
    assert torch.equal(dx, again[1])
    assert all(torch.equal(gradients[name], again[2][name]) for name in gradients)

    x, g = x.astype(np.float64), g.astype(np.float64)
    bound = forward_bound(parameters, x, x, storage=DType.F32, accumulate=DType.F32)
    assert worst_ratio(to_array(y, DType.F32), forward(parameters, x, x), bound) <= 1
    expected, bounds = vjp(parameters, x, g), vjp_bound(parameters, x, g, storage=DType.F32, accumulate=DType.F32)
    u = DType.F32.roundoff
    onto = (1 + u) * bounds.dx + u * np.abs(expected.dx + g)
    assert worst_ratio(to_array(dx, DType.F32), expected.dx + g, onto) <= 1
    for side, values, errors in (("down", expected.down, bounds.down), ("up", expected.up, bounds.up)):
        for name in getattr(site, side).tensors():
            got = to_array(gradients[f"{side}.{name}"], DType.F32)
            assert worst_ratio(got, values[name], errors[name]) <= 1, name


@pytest.mark.parametrize("activation", Activation)
def test_activations_at_the_edges(activation: Activation) -> None:
    """Large numbers saturate, and what is not finite stays so, as with the plain operations."""
    adapter = compacter(4, 4, ProjectionKind.LOW_RANK)
    site = site_of(adapter, DType.F32)
    site.non_linearity = activation
    with torch.no_grad():
        for parameter in site.parameters():
            parameter.zero_()
        for projection in (site.down, site.up):
            projection.get_parameter("W_left")[0] = 1
            projection.get_parameter("W_right")[0, 0] = 1
    values = [0.0, -0.0, 1e-30, 1e-4, -1e-4, 8.0, -8.0, 30.0, -30.0, 100.0, -100.0, 1e9, -1e9, torch.inf, torch.nan]
    x = torch.zeros(len(values), 4)
    x[:, 0] = torch.tensor(values)
    x.requires_grad_()
    y, expected = site(x), plain(site, x)
    torch.testing.assert_close(y, expected, rtol=2e-6, atol=1e-12, equal_nan=True)
    finite = x.detach().isfinite().all(1)
    got, wanted = (torch.autograd.grad(value[finite].sum(), [x], retain_graph=True)[0] for value in (y, expected))
    torch.testing.assert_close(got[finite], wanted[finite], rtol=1e-5, atol=1e-6)


def test_traced_adapters_run_the_plain_operations() -> None:
    """A trace holds operations, so that it serves other inputs."""
    site = site_of(compacter(16, 4), DType.F32).requires_grad_(False)
    first, other = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    traced = torch.jit.trace(lambda x: site(x, x), (first,))  # type: ignore[no-untyped-call]  # PyTorch's annotations lack it
    torch.testing.assert_close(traced(other), site(other, other))
    assert "addmm" in str(traced.graph)


@pytest.mark.parametrize("name", ["CC", native.SWITCH])
def test_without_kernels_the_plain_operations_serve(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is no compiler, with a word, and where they are switched off, without one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(name, "off")
    with caplog.at_level(logging.WARNING):
        assert library.load() is None
    assert ("adapters run on plain operations" in caplog.text) == (name == "CC")


def test_other_tensors_have_no_kernels() -> None:
    """Of other devices, and such as stand for something else."""

    class Other(torch.Tensor):
        pass

    assert kernels_for(torch.ones(1, device="meta")) is None
    assert kernels_for(torch.ones(1).as_subclass(Other)) is None


def _both_ways(site: SiteAdapter, x: np.ndarray, g: np.ndarray) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Y = x + D(x), dx, and the gradients of the tensors as `down.W_left`."""
    leaf = torch.from_numpy(x).requires_grad_()
    y = site(leaf, leaf)
    names = {f"{side}.{name}": one for side in ("down", "up") for name, one in getattr(site, side).tensors().items()}
    dx, *gradients = torch.autograd.grad(y, [leaf, *names.values()], torch.from_numpy(g))
    return y.detach(), dx, dict(zip(names, gradients, strict=True))
