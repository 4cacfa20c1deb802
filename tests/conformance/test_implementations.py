"""Our implementations answer hand-made requests within the derived bounds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.config import AdapterConfig, Attach, Projection, Site
from compacter_core.conformance.implementation import Implementation
from compacter_core.conformance.implementations import NAMES, create
from compacter_core.conformance.implementations.onnx_graph import (
    onnx_reference_graphs,
    onnxruntime_graphs,
)
from compacter_core.conformance.implementations.site_graph import sublayer_graph
from compacter_core.conformance.words import ConformanceClass, Op
from compacter_core.layout import Side, adapter_layout, projection_names, scaling_name
from compacter_core.reference.adapter import delta, forward, vjp
from compacter_core.reference.bounds import delta_bound, forward_bound, vjp_bound, worst_ratio
from compacter_core.reference.placement import sublayer
from compacter_core.reference.rounding import float64_site
from compacter_core.vocabulary import Activation, Input, ProjectionKind, Skip
from tests.conformance.asking import answered
from tests.conformance.suites import SITE
from tests.support.strategies import adapter_configs, adapters, arrays, site_inputs

ATTACHES = [Attach(input=given, skip=skip, post=skip is Skip.SUBLAYER_OUTPUT) for given in Input for skip in Skip]


def of_ones(**changes: Any) -> Adapter:
    """One dense site on two channels; every weight is 1."""
    config = AdapterConfig(
        method="test",
        name="a",
        hidden_size=2,
        projection=Projection(kind=ProjectionKind.DENSE),
        sites=(Site(id=SITE, bottleneck_size=1),),
        **changes,
    )
    tensors = {name: np.ones(shape) for name, shape in adapter_layout(config).items()}
    return Adapter(config=config, tensors=tensors, dtype=DType.F64)


def claims(cls: ConformanceClass) -> list[tuple[str, DType]]:
    """Names and types that claim a class."""
    return [(name, dtype) for name in NAMES for dtype in create(name).describe().claims.get(cls, ())]


@pytest.mark.parametrize("non_linearity", Activation)
@pytest.mark.parametrize(("name", "dtype"), claims(ConformanceClass.FORWARD))
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_forward(name: str, dtype: DType, non_linearity: Activation, data: st.DataObject) -> None:
    check_forward(create(name), dtype, non_linearity, data)


@pytest.mark.parametrize("non_linearity", Activation)
@pytest.mark.parametrize("make", [onnxruntime_graphs, onnx_reference_graphs])
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_forward_of_older_graphs(make: Any, non_linearity: Activation, data: st.DataObject) -> None:
    """Before opset 20, both GELUs are spelt out in the graph."""
    check_forward(make(opset=17), DType.F32, non_linearity, data)


@pytest.mark.parametrize("non_linearity", sorted(set(Activation) - {Activation.GELU}))
@pytest.mark.parametrize("make", [onnxruntime_graphs, onnx_reference_graphs])
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_graphs_in_f64(make: Any, non_linearity: Activation, data: st.DataObject) -> None:
    """All but gelu: neither has Erf in F64, so the class is not claimed in this type."""
    check_forward(make(), DType.F64, non_linearity, data)


def test_graphs_have_no_gelu_in_f64(tmp_path: Path) -> None:
    """The day that they have it, they should claim it."""
    implementation = create("onnxruntime")
    adapter = of_ones(non_linearity=Activation.GELU)
    inputs = {"x": np.ones((1, 2)), "skip": np.ones((1, 2))}
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented, match="Erf"):
        answered(implementation, Op.FORWARD, adapter, inputs, {"site": SITE, "outputs": ["y"]})


def check_forward(implementation: Implementation, dtype: DType, non_linearity: Activation, data: st.DataObject) -> None:
    config = data.draw(adapter_configs(non_linearity=non_linearity, max_sites=2, with_backbone=False))
    # Overflow is outside the bounds' model, and F16 ends at 65,504.
    spread = 0 if dtype is DType.F16 else 2
    adapter = data.draw(adapters(config, dtype=dtype, max_exponent=spread))
    site_id = config.sites[-1].id
    site = float64_site(adapter.site(site_id))
    x, skip = data.draw(site_inputs(site, count=2, dtype=dtype, max_exponent=spread))
    got = answered(
        implementation, Op.FORWARD, adapter, {"x": x, "skip": skip}, {"site": site_id, "outputs": ["delta", "y"]}
    )
    sums = implementation.describe().accumulate[dtype]
    x, skip = x.astype(np.float64), skip.astype(np.float64)
    assert set(got) == {"delta", "y"}
    assert worst_ratio(got["delta"], delta(site, x), delta_bound(site, x, storage=dtype, accumulate=sums)) <= 1
    bound = forward_bound(site, x, skip, storage=dtype, accumulate=sums)
    assert worst_ratio(got["y"], forward(site, x, skip), bound) <= 1


@pytest.mark.parametrize(("name", "dtype"), claims(ConformanceClass.GRADIENT))
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_gradient(name: str, dtype: DType, data: st.DataObject) -> None:
    """Of the listed sites' inputs and tensors and of nothing else; shared tensors have the sum."""
    implementation = create(name)
    config = data.draw(adapter_configs(max_sites=3, with_backbone=False))
    spread = 0 if dtype is DType.F16 else 2
    adapter = data.draw(adapters(config, dtype=dtype, max_exponent=spread))
    asked = config.sites[:2]
    inputs: dict[str, Array] = {}
    for site in asked:
        inputs[f"x.{site.id}"], inputs[f"g.{site.id}"] = data.draw(
            site_inputs(float64_site(adapter.site(site.id)), count=2, dtype=dtype, max_exponent=spread)
        )
    got = answered(implementation, Op.GRADIENT, adapter, inputs, {"sites": [site.id for site in asked]})
    accumulate = implementation.describe().accumulate[dtype]
    expected = summed_gradients(adapter, asked, inputs, accumulate)
    assert set(got) == set(expected)
    for tensor, (value, bound) in expected.items():
        assert worst_ratio(got[tensor], value, bound) <= 1, tensor


def summed_gradients(
    adapter: Adapter, sites: tuple[Site, ...], inputs: Mapping[str, Array], accumulate: DType
) -> dict[str, tuple[Array, Array]]:
    """Value and bound by the names that answers have."""
    terms: dict[str, list[tuple[Array, Array]]] = {}
    for site in sites:
        parameters = float64_site(adapter.site(site.id))
        x, g = (inputs[f"{letter}.{site.id}"].astype(np.float64) for letter in "xg")
        found = vjp(parameters, x, g)
        bound = vjp_bound(parameters, x, g, storage=adapter.dtype, accumulate=accumulate)
        terms[f"x.{site.id}"] = [(found.dx, bound.dx)]
        if found.scaling is not None and bound.scaling is not None:
            terms[scaling_name(site)] = [(found.scaling, bound.scaling)]
        for side, values, errors in (
            (Side.DOWN, found.down, bound.down),
            (Side.UP, found.up, bound.up),
        ):
            for short, full in projection_names(adapter.config, site, side).tensors.items():
                terms.setdefault(full, []).append((values[short], errors[short]))
    total = {}
    for tensor, pairs in terms.items():
        # Each addition of one more user's gradient rounds once.
        additions = (len(pairs) - 1) * 2 * adapter.dtype.roundoff
        error = sum(error + additions * (np.abs(value) + error) for value, error in pairs)
        total[tensor] = (np.sum([value for value, _ in pairs], axis=0), np.asarray(error))
    return total


@pytest.mark.parametrize("attach", ATTACHES, ids=lambda attach: f"{attach.input}-{attach.skip}")
@pytest.mark.parametrize(("name", "dtype"), claims(ConformanceClass.PLACEMENT))
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_sublayer(name: str, dtype: DType, attach: Attach, data: st.DataObject) -> None:
    """Small integers, so that every type has to be exact, in whichever form the adapter is written."""
    config = data.draw(adapter_configs(kind=ProjectionKind.DENSE, max_sites=2, max_blocks=3, with_backbone=False))
    sites = tuple(replace(site, attach=attach, bottleneck_size=min(site.bottleneck_size, 2)) for site in config.sites)
    config = replace(config, sites=sites, non_linearity=Activation.RELU, scaling=1.0, name="a")
    adapter = data.draw(adapters(config, dtype=dtype, integers=True))
    site_id = config.sites[-1].id
    r, h = data.draw(site_inputs(adapter.site(site_id), count=2, dtype=dtype, integers=True))
    gain, offset = (data.draw(arrays((config.hidden_size,), dtype=dtype, integers=True)) for _ in range(2))
    inputs = {"r": r, "h": h, "gain": gain, "offset": offset}
    expected = sublayer(attach, adapter.site(site_id), r, h, lambda v: gain * v + offset)
    got = answered(create(name), Op.SUBLAYER, adapter, inputs, {"site": site_id})
    np.testing.assert_array_equal(got["result"], expected)


@pytest.mark.parametrize("attach", ATTACHES, ids=lambda attach: f"{attach.input}-{attach.skip}")
def test_sublayers_are_folded_where_that_is_possible(attach: Attach) -> None:
    """A folded site has no bias of its linear left."""
    graph = sublayer_graph(
        of_ones(attach=attach), SITE, np.ones(2), shape=(1, 2), dtype=ir.DataType.DOUBLE, opset=20
    ).model.graph
    assert ("bias" in graph.initializers) is (attach != Attach())
