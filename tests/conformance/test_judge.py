"""The judge lets nothing pass that is wrong, and says what it got and what it expected (CNF-11 to CNF-13)."""

import json
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.adapter import Array, DType
from compacter_core.conformance.case import Case, Expectation
from compacter_core.conformance.compare import Expected, compare, expected_tensors
from compacter_core.conformance.implementation import Answer, Done, Failed, Rejected, Request, Skipped
from compacter_core.conformance.judge import Judgement, Reply, judge
from compacter_core.conformance.tensor_files import write_tensors
from compacter_core.conformance.values import different
from compacter_core.conformance.words import Op, Verdict
from compacter_core.errors import CompacterError
from compacter_core.format.config_json import config_to_json
from tests.conformance.suites import CONFIG, count_case, in_memory, with_bounds

PRECISION = (DType.F32, DType.F64)
KIND = "F32.F64"
SHAPE = (2, 3)
BOUND = 2.0**-10
VALUES = np.arange(6.0).reshape(SHAPE)


def forward_case(**expect: Any) -> Case:
    return Case(
        id="forward/x",
        statements=("CNF-12",),
        op=Op.FORWARD,
        dtypes=(DType.F32,),
        expect=Expectation(**(expect or {"tensors": "files/expected"})),
    )


def judge_output(
    tmp_path: Path,
    out: bytes | None,
    case: Case,
    files: Mapping[str, bytes],
    answer: Answer | None = None,
    *,
    asked: DType | None = None,
) -> Judgement:
    path = tmp_path / "out"
    if out is not None:
        path.write_bytes(out)
    request = Request(case=case.id, op=case.op, dtype=asked, files={}, args=case.args, out=path)
    reply = Reply(request, Done() if answer is None else answer)
    return judge(in_memory(case, files=files), case, PRECISION if case.dtypes else None, [reply])


def judge_tensors(
    tmp_path: Path,
    got: Mapping[str, Array],
    expected: Mapping[str, Array],
    bound: float = BOUND,
    *,
    dtype: DType = DType.F64,
    asked: DType | None = None,
) -> Judgement:
    files = {"files/expected": with_bounds(expected, bound, KIND, "F64.F64")}
    return judge_output(tmp_path, write_tensors(got, dtype), forward_case(), files, asked=asked)


def changed(index: tuple[int, ...], value: float) -> Array:
    array = VALUES.copy()
    array[index] = value
    return array


def test_the_expected_values_pass_with_ratio_0(tmp_path: Path) -> None:
    assert judge_tensors(tmp_path, {"y": VALUES}, {"y": VALUES}) == Judgement(Verdict.PASSED, 0.0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.spec("CNF-12")
def test_the_bound_passes_and_the_next_number_fails(tmp_path: Path, sign: int) -> None:
    edge = 3.0 + sign * BOUND
    assert judge_tensors(tmp_path, {"y": changed((1, 0), edge)}, {"y": VALUES}) == Judgement(Verdict.PASSED, 1.0)
    beyond = float(np.nextafter(edge, sign * math.inf))
    judgement = judge_tensors(tmp_path, {"y": changed((1, 0), beyond)}, {"y": VALUES})
    assert judgement.verdict is Verdict.FAILED
    assert judgement.worst_ratio is not None
    assert judgement.worst_ratio > 1.0
    assert f"y[1, 0]: got {beyond!r}, expected 3.0 within {BOUND!r}" in str(judgement.detail)
    assert "1 of 6 elements are wrong" in str(judgement.detail)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 5e-324])
def test_nothing_but_the_value_meets_a_bound_of_0(tmp_path: Path, wrong: float) -> None:
    judgement = judge_tensors(tmp_path, {"y": changed((0, 0), wrong)}, {"y": VALUES}, bound=0.0)
    assert judgement.verdict is Verdict.FAILED
    assert judgement.worst_ratio == math.inf
    said = "the bound is 0, so the exact value is required" if math.isfinite(wrong) else "expected 0.0, which is finite"
    assert said in str(judgement.detail)
    assert str(judgement.detail).startswith("y[0, 0]: got ")


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_no_finite_bound_excuses_what_is_not_finite(tmp_path: Path, wrong: float) -> None:
    assert judge_tensors(tmp_path, {"y": changed((0, 1), wrong)}, {"y": VALUES}, bound=1e300).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("ratio", "said"), [(1.5, "1.5000 times the bound"), (1e4, "1.000e+04 times"), (2e30, "2.000e+30 times")]
)
def test_a_ratio_is_short(tmp_path: Path, ratio: float, said: str) -> None:
    judgement = judge_tensors(tmp_path, {"y": changed((0, 0), ratio * 2.0**-10)}, {"y": VALUES}, bound=2.0**-10)
    assert said in str(judgement.detail)


@pytest.mark.parametrize("expected", [math.nan, math.inf, -math.inf])
@pytest.mark.spec("CNF-12")
def test_what_is_not_finite_has_to_be_met(tmp_path: Path, expected: float) -> None:
    wanted = {"y": changed((0, 1), expected)}
    assert judge_tensors(tmp_path, wanted, wanted).verdict is Verdict.PASSED
    for other in (1.0, math.nan, math.inf, -math.inf):
        if not np.array_equal(other, expected, equal_nan=True):
            assert judge_tensors(tmp_path, {"y": changed((0, 1), other)}, wanted).verdict is Verdict.FAILED


def test_a_nan_is_not_hidden_by_others(tmp_path: Path) -> None:
    judgement = judge_tensors(tmp_path, {"a": VALUES, "b": changed((1, 2), math.nan)}, {"a": VALUES, "b": VALUES})
    assert judgement.verdict is Verdict.FAILED
    assert "b[1, 2]: got nan" in str(judgement.detail)


@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 3, 1), (1, 2, 3)])
def test_the_shape_counts(tmp_path: Path, shape: tuple[int, ...]) -> None:
    judgement = judge_tensors(tmp_path, {"y": VALUES.reshape(shape)}, {"y": VALUES})
    assert judgement.verdict is Verdict.FAILED
    assert f"got {[*shape]}, expected [2, 3]" in str(judgement.detail)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_an_empty_tensor_is_no_excuse(tmp_path: Path, shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape)
    assert judge_tensors(tmp_path, {"y": empty}, {"y": empty}) == Judgement(Verdict.PASSED, None)
    assert judge_tensors(tmp_path, {"y": empty}, {"y": VALUES}).verdict is Verdict.FAILED
    assert judge_tensors(tmp_path, {"y": VALUES}, {"y": empty}).verdict is Verdict.FAILED
    assert judge_tensors(tmp_path, {"y": np.zeros((0, 4))}, {"y": np.zeros((0, 3))}).verdict is Verdict.FAILED


def test_a_scalar_is_compared(tmp_path: Path) -> None:
    assert judge_tensors(tmp_path, {"y": np.array(1.0)}, {"y": np.array(1.0)}).verdict is Verdict.PASSED
    judgement = judge_tensors(tmp_path, {"y": np.array(2.0)}, {"y": np.array(1.0)})
    assert "y[]: got 2.0, expected 1.0" in str(judgement.detail)


@pytest.mark.parametrize(
    ("got", "said"),
    [
        ({}, "missing: delta, y"),
        ({"y": VALUES}, "missing: delta"),
        ({"y": VALUES, "delta": VALUES, "z": VALUES}, "not asked for: z"),
        ({"y": VALUES, "Delta": VALUES}, "missing: delta; tensors that were not asked for: Delta"),
    ],
)
def test_the_tensors_are_exactly_those_expected(tmp_path: Path, got: dict[str, Array], said: str) -> None:
    judgement = judge_tensors(tmp_path, got, {"y": VALUES, "delta": VALUES})
    assert judgement.verdict is Verdict.FAILED
    assert said in str(judgement.detail)


@pytest.mark.spec("CNF-15")
@pytest.mark.parametrize("asked", DType)
@pytest.mark.parametrize("answered", DType)
def test_the_output_has_the_type_of_the_request(tmp_path: Path, asked: DType, answered: DType) -> None:
    """Also where every value is right: the bound allows for one rounding to the type that was asked for."""
    got = {"y": VALUES.astype(answered.memory)}
    judgement = judge_tensors(tmp_path, got, {"y": VALUES}, bound=0.0, dtype=answered, asked=asked)
    if asked is answered:
        assert judgement.verdict is Verdict.PASSED
    else:
        assert judgement.verdict is Verdict.FAILED
        assert judgement.detail == f"y has type {answered}; expected {asked}, the type of the request"


def test_integers_are_no_output(tmp_path: Path) -> None:
    data = write_tensors({"y": np.zeros(1, np.float32)}, DType.F32).replace(b"F32", b"I32")
    files = {"files/expected": with_bounds({"y": np.zeros(1)}, 0.0, KIND)}
    judgement = judge_output(tmp_path, data, forward_case(), files)
    assert judgement.verdict is Verdict.ERROR
    assert "E110" in str(judgement.detail)


@pytest.mark.parametrize("data", [b"", b"\x80\x04K\x01.", b"PK\x03\x04", b"\xff" * 64])
def test_an_output_that_is_no_safetensors_file_is_an_error(tmp_path: Path, data: bytes) -> None:
    files = {"files/expected": with_bounds({"y": VALUES}, 1.0, KIND)}
    assert judge_output(tmp_path, data, forward_case(), files).verdict is Verdict.ERROR
    assert judge_output(tmp_path / "nowhere", None, forward_case(), files).verdict is Verdict.ERROR


def test_the_bounds_are_those_of_the_claimed_types() -> None:
    stored = {"y": VALUES, f"bound.{KIND}.y": VALUES * 0 + 1, "bound.F32.F32.y": VALUES * 0 + 2}
    assert expected_tensors(stored, PRECISION, "file")["y"].bound.max() == 1
    assert expected_tensors(stored, (DType.F32, DType.F32), "file")["y"].bound.max() == 2
    with pytest.raises(CompacterError, match="no bound of y"):
        expected_tensors(stored, (DType.F64, DType.F64), "file")
    with pytest.raises(CompacterError, match="expected one kind"):
        expected_tensors(stored, None, "file")
    del stored["bound.F32.F32.y"]
    assert expected_tensors(stored, None, "file")["y"].bound.max() == 1


@pytest.mark.parametrize("bound", [np.full(SHAPE, -1.0), np.full(SHAPE, math.nan), np.ones(6)])
def test_a_bound_that_is_none_is_refused(bound: Array) -> None:
    with pytest.raises(CompacterError, match="bound of y"):
        expected_tensors({"y": VALUES, f"bound.{KIND}.y": bound}, PRECISION, "file")


NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64)


@given(got=NUMBERS, expected=NUMBERS, bound=NUMBERS.map(abs))
def test_the_comparison_is_that_of_real_numbers(got: float, expected: float, bound: float) -> None:
    """But for one rounding of the difference, in which it may favour the implementation."""
    exact = abs(Fraction(got) - Fraction(expected))
    found = compare({"y": np.array([got])}, {"y": Expected(np.array([expected]), np.array([bound]))})
    if exact <= Fraction(bound):
        assert found.problem is None
        assert found.worst_ratio is not None
        assert found.worst_ratio <= 1.0
    elif exact >= Fraction(math.nextafter(bound, math.inf)) if math.nextafter(bound, math.inf) != math.inf else False:
        assert found.problem is not None
        assert found.worst_ratio is not None
        assert found.worst_ratio > 1.0


@given(
    errors=st.lists(st.floats(0.0, 4.0), min_size=1, max_size=20),
    signs=st.integers(0, 2**20 - 1),
)
def test_the_worst_element_decides(errors: list[float], signs: int) -> None:
    got = np.array([error if signs >> i & 1 else -error for i, error in enumerate(errors)])
    found = compare({"y": got}, {"y": Expected(np.zeros(len(errors)), np.ones(len(errors)))})
    assert found.worst_ratio == max(errors)
    assert (found.problem is None) == (max(errors) <= 1.0)
    if found.problem is not None:
        assert found.problem.startswith(f"y[{errors.index(max(errors))}]")


@pytest.mark.parametrize(
    ("answer", "verdict", "said"),
    [
        (Rejected("E304"), Verdict.PASSED, "None"),
        (Rejected("E301"), Verdict.FAILED, "got the rejection E301 (tensor missing), expected E304"),
        (Rejected("e304"), Verdict.FAILED, "no code of the specification"),
        (Done(), Verdict.FAILED, "got no rejection, expected E304 (tensor of the wrong shape)"),
        (Done({"config": {}}), Verdict.FAILED, "got no rejection"),
        (Skipped("later"), Verdict.SKIPPED, "later"),
        (Failed("broken"), Verdict.ERROR, "broken"),
    ],
)
@pytest.mark.spec("CNF-11")
def test_codes_are_exact(tmp_path: Path, answer: Answer, verdict: Verdict, said: str) -> None:
    judgement = judge_output(tmp_path, None, forward_case(code="E304"), {}, answer)
    assert judgement.verdict is verdict
    assert said in str(judgement.detail)


@pytest.mark.parametrize("expect", [{"value": {}}, {"file": "files/x"}, {"tensors": "files/x"}, {"distribution": {}}])
def test_a_rejection_of_a_good_input_fails(tmp_path: Path, expect: dict[str, Any]) -> None:
    judgement = judge_output(tmp_path, None, forward_case(**expect), {"files/x": b""}, Rejected("E101"))
    assert judgement.verdict is Verdict.FAILED
    assert "got the rejection E101 (file truncated or its length field is wrong), expected" in str(judgement.detail)


@pytest.mark.parametrize(
    ("got", "expected", "said"),
    [
        ({"parameters": 4}, {"parameters": 3}, "parameters: got 4, expected 3"),
        ({}, {"parameters": 3}, "parameters: missing"),
        ({"parameters": 3, "more": 1}, {"parameters": 3}, "more: got 1, expected no such key"),
        ({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "y"}]}, "a[1].b: got 'x', expected 'y'"),
        ({"a": [1]}, {"a": [1, 2]}, "a: got 1 items, expected 2"),
        ({"a": True}, {"a": 1}, "a: got True, expected 1"),
        ({"a": 0}, {"a": False}, "a: got 0, expected False"),
        ({"a": None}, {"a": 0}, "a: got None, expected 0"),
        ({"a": "1"}, {"a": 1}, "a: got '1', expected 1"),
        ({"a": []}, {"a": {}}, "a: got [], expected {}"),
        ({"a": math.nan}, {"a": math.nan}, "a: got nan"),
    ],
)
@pytest.mark.spec("CNF-11")
def test_values_are_equal_or_the_difference_is_named(
    tmp_path: Path, got: dict[str, Any], expected: dict[str, Any], said: str
) -> None:
    judgement = judge_output(tmp_path, None, count_case(expect=Expectation(value=expected)), {}, Done(got))
    assert judgement.verdict is Verdict.FAILED
    assert str(judgement.detail).startswith(said)


def test_equal_values_pass(tmp_path: Path) -> None:
    value: dict[str, Any] = {"a": [1, 2.5, None, True, "x", {"b": []}]}
    assert different(json.loads(json.dumps(value)), value) is None
    assert different({"a": 1.0}, {"a": 1}) is None
    assert judge_output(tmp_path, None, count_case(), {}, Done({"parameters": 3.0})).verdict is Verdict.PASSED


@pytest.mark.spec("CNF-11", "CNF-5")
def test_of_a_configuration_its_meaning_counts(tmp_path: Path) -> None:
    written = json.loads(config_to_json(CONFIG))
    case = count_case(op=Op.READ, expect=Expectation(value={"config": written, "tensors": {}}))
    short = {key: value for key, value in written.items() if key not in ("attach", "extensions", "scaling")}
    assert short != written

    def verdict(config: object) -> tuple[Verdict, str]:
        found = judge_output(tmp_path, None, case, {}, Done({"config": config, "tensors": {}}))
        return found.verdict, str(found.detail)

    assert verdict(written)[0] is Verdict.PASSED
    assert verdict(short)[0] is Verdict.PASSED
    assert verdict(written | {"scaling": 2.0}) == (Verdict.FAILED, "config.scaling: got 2.0, expected 1.0")
    failed, said = verdict(written | {"colour": "red"})
    assert failed is Verdict.FAILED
    assert "config is not valid: E205" in said
    assert verdict("a text")[0] is Verdict.FAILED


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (b"0123456789X", "differ from offset 10 on: got b'23456789X', expected b'23456789'"),
        (b"012", "differ from offset 3 on"),
        (b"0X23456789", "differ from offset 1 on: got b'0X23456789'"),
        (b"", "differ from offset 0 on"),
    ],
)
@pytest.mark.spec("CNF-11")
def test_bytes_are_equal_or_the_offset_is_named(tmp_path: Path, got: bytes, said: str) -> None:
    case, files = count_case(expect=Expectation(file="files/x")), {"files/x": b"0123456789"}
    judgement = judge_output(tmp_path, got, case, files)
    assert judgement.verdict is Verdict.FAILED
    assert said in str(judgement.detail)
    assert judge_output(tmp_path, b"0123456789", case, files).verdict is Verdict.PASSED
