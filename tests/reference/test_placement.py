"""Where the adapter reads and writes: every allowed combination, exactly, on small integers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.adapter import Array
from compacter_core.config import ATTACH_PRESETS, Attach
from compacter_core.reference.adapter import delta
from compacter_core.reference.placement import layer_norm, sublayer
from compacter_core.vocabulary import Activation, Input, Skip
from tests.support.strategies import arrays, hidden_size, site_parameters


def norm(v: Array) -> Array:
    """An affine stand-in for the norm, exact on integers."""
    return 3 * v + 1


@pytest.mark.spec("PLC-2", "PLC-3", "PLC-4", "PLC-5")
@pytest.mark.parametrize("input_", Input)
@pytest.mark.parametrize("skip", Skip)
@given(data=st.data())
def test_every_combination(input_: Input, skip: Skip, data: st.DataObject) -> None:
    site = data.draw(site_parameters(non_linearity=Activation.RELU, integers=True))
    r, h = (data.draw(arrays((2, hidden_size(site)), integers=True)) for _ in range(2))
    reads = {"sublayer_output": h, "normed_sum": 3 * (r + h) + 1, "residual": r}[input_.value]
    adds = {"sublayer_output": h, "residual_sum": r + h, "normed_sum": 3 * (r + h) + 1}[skip.value]
    post = skip is Skip.SUBLAYER_OUTPUT
    o = adds + delta(site, reads)
    expected = 3 * (r + o) + 1 if post else o
    got = sublayer(Attach(input=input_, skip=skip, post=post), site, r, h, norm)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("houlsby", lambda r, h, D: norm(r + h + D(h))),
        ("pfeiffer", lambda r, h, D: norm(r + h + D(norm(r + h)))),
        ("parallel", lambda r, h, D: norm(r + h + D(r))),
        ("adapter_plus", lambda r, h, D: norm(r + h) + D(norm(r + h))),
    ],
)
@given(data=st.data())
def test_presets_are_those_of_their_papers(preset: str, expected: object, data: st.DataObject) -> None:
    site = replace(data.draw(site_parameters(non_linearity=Activation.IDENTITY, integers=True)), scaling=1.0)
    r, h = (data.draw(arrays((2, hidden_size(site)), integers=True)) for _ in range(2))
    got = sublayer(ATTACH_PRESETS[preset], site, r, h, norm)
    assert callable(expected)
    np.testing.assert_array_equal(got, expected(r, h, lambda x: delta(site, x)))


def test_layer_norm_by_hand() -> None:
    """Mean 3, variance 4 (divisor d): (1, 5) becomes (-1, 1)."""
    x = np.array([[1.0, 5.0]])
    gain, bias = np.array([2.0, 3.0]), np.array([10.0, 20.0])
    np.testing.assert_array_equal(layer_norm(x, gain, bias, 0.0), [[8.0, 23.0]])
    np.testing.assert_array_equal(layer_norm(x, gain, None, 12.0), [[-1.0, 1.5]])
