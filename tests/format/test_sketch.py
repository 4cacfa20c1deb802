"""Weight sketches: portable positions, few reads, and the power to tell weights apart."""

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.adapter import Array
from compacter_core.errors import ErrorCode
from compacter_core.format.sketch import (
    SKETCH_SIZE,
    THRESHOLD,
    bias_name,
    correlation,
    similarity,
    sketch_bias,
    sketch_indices,
    sketch_weight,
    weight_name,
)
from tests.format.builders import rejected

SPLITMIX64_1234567 = (
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
)
"""First outputs of SplitMix64 from state 1234567, a published test vector of the generator."""

WEIGHT = np.random.default_rng(0).standard_normal((96, 64)) * 0.02


@pytest.mark.spec("SKT-1")
def test_positions_come_from_splitmix64_seeded_by_the_shape() -> None:
    size = 1234567
    assert {z % size for z in SPLITMIX64_1234567} <= set(sketch_indices((size,)).tolist())


def independent_indices(shape: tuple[int, ...]) -> list[int]:
    """The specification, written again with NumPy's wrapping integers."""
    with np.errstate(over="ignore"):
        state = np.uint64(0)
        for dimension in shape:
            state = (state << np.uint64(32)) + np.uint64(dimension)
        size = int(np.prod(shape))
        found: list[int] = []
        while len(found) < min(256, size):
            state += np.uint64(0x9E3779B97F4A7C15)
            z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            position = int(z ^ (z >> np.uint64(31))) % size
            if position not in found:
                found.append(position)
    return sorted(found)


@pytest.mark.spec("SKT-1")
@pytest.mark.parametrize("shape", [(257,), (768,), (16, 17), (768, 768), (3072, 768), (768, 3072), (65536, 65536)])
def test_positions_follow_the_specification(shape: tuple[int, ...]) -> None:
    assert sketch_indices(shape).tolist() == independent_indices(shape)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=2).map(tuple))
def test_positions_are_distinct_ascending_and_inside(shape: tuple[int, ...]) -> None:
    positions = sketch_indices(shape)
    size = int(np.prod(shape))
    assert len(positions) == min(SKETCH_SIZE, size)
    assert np.all(np.diff(positions) > 0)
    assert positions[0] >= 0
    assert positions[-1] < size
    assert not positions.flags.writeable


def test_positions_depend_on_the_shape_and_not_only_on_the_size() -> None:
    assert sketch_indices((64, 32)).tolist() != sketch_indices((32, 64)).tolist()


@pytest.mark.spec("SKT-1")
def test_small_arrays_are_sketched_whole() -> None:
    weight = np.arange(256, dtype=np.float32).reshape(16, 16)
    assert np.array_equal(sketch_weight(weight), weight.ravel())


@pytest.mark.spec("SKT-1")
def test_positions_are_row_major_in_in_by_out_whatever_the_memory_order() -> None:
    weight = np.arange(96 * 64).reshape(96, 64)
    assert np.array_equal(sketch_weight(weight), sketch_indices((96, 64)))
    assert np.array_equal(sketch_weight(np.asfortranarray(weight)), sketch_indices((96, 64)))
    assert np.array_equal(sketch_bias(np.arange(1000)), sketch_indices((1000,)))


def test_only_the_sampled_entries_are_read() -> None:
    """An array of 2^60 entries that are all the same float in memory: reading or copying it would never end."""
    weight = np.broadcast_to(np.float32(1), (2**30, 2**30))
    assert sketch_weight(weight).shape == sketch_weight(weight.T).shape == (SKETCH_SIZE,)
    assert correlation(sketch_weight(weight), weight) == 1.0


def test_a_memory_mapped_weight_can_be_sketched(tmp_path: Path) -> None:
    WEIGHT.tofile(tmp_path / "weight.bin")
    weight = np.memmap(tmp_path / "weight.bin", dtype=np.float64, mode="r", shape=WEIGHT.shape)
    assert np.array_equal(sketch_weight(weight), sketch_weight(WEIGHT))


CHANGES: dict[str, Callable[[Array], Array]] = {
    "same": lambda w: w,
    "float32": lambda w: w.astype(np.float32),
    "float16": lambda w: w.astype(np.float16),
    "bfloat16": lambda w: w.astype(ml_dtypes.bfloat16),
    "int8": lambda w: np.round(w / np.abs(w).max() * 127).astype(np.int8),
    "uint8 with a zero point": lambda w: (np.round(w / np.abs(w).max() * 127) + 128).astype(np.uint8),
    "int4 in blocks": lambda w: np.concatenate(
        [np.round(block / np.abs(block).max() * 7) * np.abs(block).max() / 7 for block in np.split(w, 6)]
    ),
}


@pytest.mark.spec("SKT-6")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_cast_or_quantised_weight_is_recognised(change: Callable[[Array], Array]) -> None:
    assert correlation(sketch_weight(WEIGHT), change(WEIGHT)) > THRESHOLD


@pytest.mark.spec("SKT-6")
@pytest.mark.parametrize("seed", range(20))
def test_another_weight_is_not(seed: int) -> None:
    other = np.random.default_rng(seed + 1).standard_normal(WEIGHT.shape)
    assert abs(correlation(sketch_weight(WEIGHT), other)) < THRESHOLD / 2


def test_the_transpose_is_another_weight() -> None:
    square = WEIGHT[:64]
    assert abs(correlation(sketch_weight(square), square.T)) < THRESHOLD / 2
    assert abs(correlation(sketch_weight(WEIGHT), WEIGHT.T)) < THRESHOLD / 2


def test_correlation_is_pearsons_r() -> None:
    generator = np.random.default_rng(3)
    one, noise = generator.standard_normal((2, 40, 40))
    sample = sketch_indices((40, 40))
    expected = np.corrcoef(one.ravel()[sample], (one + noise).ravel()[sample])[0, 1]
    # The sketch is rounded to float32: a relative error of 2^-24 in each of the 256 entries moves r by less than
    # 256 * 2^-24, whatever the entries are, and NumPy's own error is far below that.
    assert abs(correlation(sketch_weight(one), one + noise) - expected) < 256 * 2.0**-24


def test_an_array_of_another_size_does_not_correlate() -> None:
    assert correlation(sketch_bias(np.arange(8.0)), np.arange(9.0)) == 0.0


@pytest.mark.spec("SKT-6")
def test_constant_arrays() -> None:
    zeros, ones = np.zeros(8), np.ones(8)
    assert correlation(sketch_bias(zeros), zeros) == 1.0
    assert correlation(sketch_bias(zeros), ones) == 0.0
    assert correlation(sketch_bias(zeros), np.arange(8.0)) == 0.0
    assert correlation(sketch_bias(ones), ones) == 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_do_not_correlate(value: float) -> None:
    broken = WEIGHT.copy()
    broken.flat[sketch_indices(WEIGHT.shape)[5]] = value
    assert correlation(sketch_weight(WEIGHT), broken) == 0.0


def test_large_values_do_not_overflow() -> None:
    huge = (WEIGHT / np.abs(WEIGHT).max() * 3e38).astype(np.float32)
    assert similarity(sketch_weight(huge), sketch_weight(WEIGHT)) > THRESHOLD


@pytest.mark.parametrize("shape", [(0,), (), (2, 2, 2), (0, 3)])
def test_e002_what_has_no_sketch(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape)
    with rejected(ErrorCode.E002):
        sketch_weight(array)
    with rejected(ErrorCode.E002):
        sketch_bias(array)
    with rejected(ErrorCode.E002):
        correlation(np.zeros(1), array)


def test_names() -> None:
    assert weight_name("encoder.0.ffn") == "sketch.encoder.0.ffn.weight"
    assert bias_name("encoder.0.ffn") == "sketch.encoder.0.ffn.bias"
