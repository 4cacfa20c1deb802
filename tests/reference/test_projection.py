"""The projections against loops, Kronecker products and complex steps."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_core.adapter import Array, DType, ProjectionParameters
from compacter_core.errors import CompacterError
from compacter_core.reference.projection import project, project_vjp, rule, weight
from compacter_core.reference.rounding import Precision, affine_error
from compacter_core.vocabulary import ProjectionKind
from tests.support import oracle
from tests.support.site_tools import complex_steps, tensors_of, with_tensors
from tests.support.strategies import arrays, hidden_size, site_parameters

KINDS = pytest.mark.parametrize("kind", ProjectionKind)
DOUBLE = Precision.of(DType.F64, DType.F64)


@pytest.mark.spec("FWD-3", "FWD-4", "FWD-5", "FWD-6", "FWD-8")
@KINDS
@given(data=st.data())
def test_weight_equals_the_loops(kind: ProjectionKind, data: st.DataObject) -> None:
    p = data.draw(site_parameters(kind=kind, max_blocks=3)).down
    identity = np.eye(weight(p).shape[0])
    bound = affine_error(replace(p, b=None), identity, 0.0, DOUBLE)
    assert (oracle.distance(weight(p), oracle.weight(p)) <= bound).all()


@pytest.mark.spec("CNV-2", "FWD-5", "FWD-6", "FWD-8")
@pytest.mark.parametrize("kind", [ProjectionKind.PHM, ProjectionKind.LPHM])
@given(data=st.data())
def test_weight_is_a_sum_of_kronecker_products(kind: ProjectionKind, data: st.DataObject) -> None:
    """On small integers every order of evaluation is exact, so the structure can be compared without a tolerance."""
    p = data.draw(site_parameters(kind=kind, integers=True)).up
    fast = p.W if p.W is not None else np.matmul(*_pair(p.W_left, p.W_right))
    A = p.phm_rule if p.phm_rule is not None else np.matmul(*_pair(p.phm_rule_left, p.phm_rule_right))
    expected = sum(np.kron(A_i, W_i) for A_i, W_i in zip(A, fast, strict=True))
    np.testing.assert_array_equal(weight(p), expected)


@pytest.mark.spec("CNV-1", "CNV-2", "FWD-7")
def test_paper_example_by_hand() -> None:
    """N = 2, in = 4, out = 2: the first axis of A counts blocks of the input."""
    p = ProjectionParameters(
        kind=ProjectionKind.PHM,
        phm_rule=np.array([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 1.0]]]),
        W=np.array([[[10.0], [100.0]], [[1.0], [7.0]]]),
        b=np.array([0.5, -0.5]),
    )
    expected = np.array([[10.0, 20.0], [100.0, 200.0], [30.0, 41.0], [300.0, 407.0]])
    np.testing.assert_array_equal(weight(p), expected)
    np.testing.assert_array_equal(project(p, np.array([1.0, 0.0, 1.0, 0.0])), [40.5, 60.5])


@pytest.mark.spec("GRD-2", "GRD-3", "GRD-4", "GRD-5", "GRD-6", "GRD-7", "GRD-8")
@KINDS
@settings(max_examples=30)
@given(data=st.data())
def test_gradients_equal_complex_steps(kind: ProjectionKind, data: st.DataObject) -> None:
    """Project is linear in each tensor: on small integers, a complex step of a power of two is exact."""
    p = data.draw(site_parameters(kind=kind, integers=True)).down
    n_in, n_out = weight(p).shape
    tokens = data.draw(st.integers(0, 3))
    x = data.draw(arrays((tokens, n_in), integers=True))
    g = data.draw(arrays((tokens, n_out), integers=True))
    dx, gradients = project_vjp(p, x, g)
    assert gradients.keys() == tensors_of(p).keys()
    np.testing.assert_array_equal(dx, complex_steps(x, lambda moved: (g * project(p, moved)).sum()))
    for name, tensor in tensors_of(p).items():

        def objective(moved: Array, name: str = name) -> Any:
            return (g * project(with_tensors(p, {name: moved}), x)).sum()

        np.testing.assert_array_equal(gradients[name], complex_steps(tensor, objective), err_msg=name)


@pytest.mark.spec("CNV-1")
@given(data=st.data())
def test_any_leading_axes_and_strides(data: st.DataObject) -> None:
    site = data.draw(site_parameters(integers=True))
    d = hidden_size(site)
    x = data.draw(arrays((2, 3, 2 * d), integers=True))[:, ::-1, ::2]
    y = project(site.down, x)
    for place in np.ndindex(2, 3):
        np.testing.assert_array_equal(y[place], project(site.down, x[place].copy()))


@given(data=st.data(), dtype=st.sampled_from([np.float16, np.float32, np.longdouble]))
def test_type_is_kept(data: st.DataObject, dtype: type[np.floating]) -> None:
    p = data.draw(site_parameters(integers=True)).down
    p = with_tensors(p, {name: tensor.astype(dtype) for name, tensor in tensors_of(p).items()})
    x = np.ones((2, weight(p).shape[0]), dtype=dtype)
    y = project(p, x)
    dx, gradients = project_vjp(p, x, y)
    assert {array.dtype for array in (y, dx, *gradients.values())} == {np.dtype(dtype)}


@KINDS
def test_missing_tensors_are_refused(kind: ProjectionKind) -> None:
    with pytest.raises(CompacterError, match="E301"):
        weight(ProjectionParameters(kind=kind))


def test_missing_rule_is_refused() -> None:
    p = ProjectionParameters(kind=ProjectionKind.PHM, W=np.ones((2, 1, 1)), phm_rule_left=np.ones((2, 2, 1)))
    with pytest.raises(CompacterError, match="E302"):
        rule(p)


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_input_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    p = ProjectionParameters(kind=ProjectionKind.DENSE, W=np.ones((4, 2)))
    with pytest.raises(CompacterError, match="E002"):
        project(p, np.ones(shape))


def _pair(left: Array | None, right: Array | None) -> tuple[Array, Array]:
    assert left is not None
    assert right is not None
    return left, right
