"""Choosing cases, skipping, expected failures, and what a run adds up to (CNF-3, CNF-4, CNF-17)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compacter_core.adapter import Array, DType
from compacter_core.conformance.case import Case, Expectation
from compacter_core.conformance.implementation import Answer, Done, Failed, Rejected, Request, Skipped
from compacter_core.conformance.lists import Entry, Lists, load_lists
from compacter_core.conformance.report import Report
from compacter_core.conformance.runner import LIMITS, USUAL, Ceilings, Selection, run_suite
from compacter_core.conformance.subject import Asked, Ceiling, InProcess
from compacter_core.conformance.suite import Suite
from compacter_core.conformance.tensor_files import read_tensors, write_tensors
from compacter_core.conformance.words import ConformanceClass, Flag, Op, Verdict
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.reference.adapter import delta
from tests.conformance.suites import SITE, Scripted, count_case, forward_suite, in_memory

FORWARD = ConformanceClass.FORWARD
READER = ConformanceClass.READER
THREE = in_memory(*(count_case(name) for name in "abc"))


def run(
    suite: Suite,
    scratch: Path,
    implementation: Scripted | None = None,
    *,
    lists: Lists | None = None,
    **selected: Any,
) -> Report:
    selection = Selection(**selected)
    subject = InProcess(implementation or Scripted())
    return run_suite(suite, subject, scratch, selection=selection, lists=lists, reproduce="compacter x")


def verdicts(report: Report) -> list[str]:
    return [result.verdict.value for result in report.results]


def by_case(**answers: Answer) -> Scripted:
    return Scripted(lambda request: answers.get(request.case.removeprefix("count/"), Done({"parameters": 3})))


def forward(mistake: Callable[[Array], Array] = lambda y: y) -> Scripted:
    def answer(request: Request) -> Answer:
        assert request.dtype is not None
        x = read_tensors(request.files["inputs"].read_bytes(), "inputs")["x"].array
        y = delta(load_adapter(request.files["adapter"]).site(SITE), x.astype(np.float64))
        request.out.write_bytes(write_tensors({"delta": mistake(y).astype(request.dtype.memory)}, request.dtype))
        return Done()

    return Scripted(answer, claims={FORWARD: (DType.F32, DType.BF16), READER: ()})


@pytest.mark.spec("CNF-3", "CNF-4")
def test_a_case_is_run_in_each_claimed_type(tmp_path: Path) -> None:
    suite = forward_suite(tmp_path / "suite")
    implementation = forward()
    report = run(suite, tmp_path, implementation, classes=(FORWARD,))
    assert [request.dtype for request in implementation.requests] == [DType.F32, DType.BF16]
    assert verdicts(report) == ["passed", "passed"]
    assert report.conformant
    assert [row.name for row in report.rows] == ["F F32", "F BF16"]
    assert [result.worst_ratio for result in report.results] == [0.0, 0.0]


def test_a_wrong_number_fails_and_says_how_to_see_it_again(tmp_path: Path) -> None:
    suite = forward_suite(tmp_path / "suite")
    report = run(suite, tmp_path, forward(lambda y: y + np.eye(3, 2)), classes=(FORWARD,), dtypes=(DType.F32,))
    (result,) = report.results
    assert result.verdict is Verdict.FAILED
    assert "delta[0, 0]: got " in str(result.detail)
    assert result.reproduce == "compacter x --case forward/integers --dtypes F32"
    assert str(result.text).endswith(f"\nreproduce: {result.reproduce}")
    assert not report.conformant


def test_the_scratch_folder_is_left_empty(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    run(forward_suite(tmp_path / "suite"), scratch, forward(), classes=(FORWARD,))
    assert list(scratch.iterdir()) == []


def test_a_class_without_cases_is_not_shown(tmp_path: Path) -> None:
    report = run(forward_suite(tmp_path / "suite"), tmp_path, forward())
    assert [(row.name, row.conformant) for row in report.rows] == [("R", False), ("F F32", True), ("F BF16", True)]
    assert not report.conformant
    assert report.all_passed


@pytest.mark.spec("CNF-4")
@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Done({"parameters": 4}), "failed"),
        (Rejected("E207"), "failed"),
        (Failed("no"), "error"),
        (Skipped("no"), "skipped"),
    ],
)
def test_whatever_did_not_pass_is_not_conformant(tmp_path: Path, answer: Answer, verdict: str) -> None:
    report = run(THREE, tmp_path, by_case(b=answer))
    assert verdicts(report) == ["passed", verdict, "passed"]
    assert not report.conformant
    assert not report.all_passed


def test_an_exception_is_an_error_of_its_case(tmp_path: Path) -> None:
    def answer(request: Request) -> Answer:
        raise RuntimeError(f"cannot do {request.case}")

    report = run(THREE, tmp_path, Scripted(answer))
    assert verdicts(report) == ["error"] * 3
    assert "RuntimeError: cannot do count/a" in str(report.results[0].detail)


def test_what_an_implementation_says_is_made_safe(tmp_path: Path) -> None:
    report = run(THREE, tmp_path, by_case(b=Failed("red \x1b[31m\ud800\r\nsecond line" + "x" * 10_000)))
    detail = str(report.results[1].detail)
    assert detail.startswith("red \\x1b[31m\\ud800\\r\nsecond linexxx")
    assert len(detail) < 5_000
    assert detail.endswith("…")
    report.as_text().encode()


def test_patterns_choose_cases_and_show_no_conformance(tmp_path: Path) -> None:
    report = run(THREE, tmp_path, patterns=("count/a", "*/[cd]"))
    assert [result.case for result in report.results] == ["count/a", "count/c"]
    assert report.all_passed
    assert not report.conformant


@pytest.mark.parametrize(
    ("selected", "said"),
    [
        ({"patterns": ("nothing",)}, "no case is chosen"),
        ({"classes": (FORWARD,)}, "does not claim this class"),
        ({"dtypes": (DType.F16,)}, "does not claim this type"),
    ],
)
def test_a_choice_of_nothing_is_a_wrong_call(tmp_path: Path, selected: dict[str, Any], said: str) -> None:
    with pytest.raises(CompacterError) as caught:
        run(THREE, tmp_path, **selected)
    assert caught.value.code is ErrorCode.E001
    assert said in str(caught.value)


def test_types_do_not_touch_the_classes_without(tmp_path: Path) -> None:
    suite = forward_suite(tmp_path / "suite")
    both = in_memory(*suite.cases.values(), count_case(), files=suite.files)
    report = run(both, tmp_path, forward(), dtypes=(DType.BF16,), patterns=("*",))
    assert [(result.case, result.dtype) for result in report.results] == [
        ("count/a", None),
        ("forward/integers", DType.BF16),
    ]
    assert {row.name for row in report.rows} == {"R", "F BF16"}


@pytest.mark.spec("CNF-17")
def test_a_skipped_case_is_not_asked_and_not_conformant(tmp_path: Path) -> None:
    implementation = by_case()
    lists = Lists(skip=(Entry("count/b", None, "takes a day"),))
    report = run(THREE, tmp_path, implementation, lists=lists)
    assert verdicts(report) == ["passed", "skipped", "passed"]
    assert report.results[1].detail == "on the skip list: takes a day"
    assert [request.case for request in implementation.requests] == ["count/a", "count/c"]
    assert not report.conformant


@pytest.mark.spec("CNF-17")
@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Done({"parameters": 4}), "xfailed"),
        (Failed("no"), "xfailed"),
        (Done({"parameters": 3}), "xpassed"),
        (Skipped("no"), "skipped"),
    ],
)
def test_an_expected_failure_is_strict_and_not_conformant(tmp_path: Path, answer: Answer, verdict: str) -> None:
    lists = Lists(xfail=(Entry("count/[b]", None, "known"),))
    report = run(THREE, tmp_path, by_case(b=answer), lists=lists)
    assert verdicts(report) == ["passed", verdict, "passed"]
    assert str(report.results[1].detail).startswith("on the list of expected failures: known")
    assert not report.conformant
    assert not report.all_passed


def test_an_entry_may_be_about_one_type(tmp_path: Path) -> None:
    suite = forward_suite(tmp_path / "suite")
    lists = Lists(skip=(Entry("forward/*", DType.BF16, "slow"),))
    report = run(suite, tmp_path, forward(), lists=lists, classes=(FORWARD,))
    assert verdicts(report) == ["passed", "skipped"]


def test_entries_about_nothing_are_reported(tmp_path: Path) -> None:
    lists = Lists(
        skip=(Entry("count/b", None, "x"), Entry("count/b", DType.F32, "x")), xfail=(Entry("cuont/*", None, "x"),)
    )
    report = run(THREE, tmp_path, lists=lists, patterns=("count/a",))
    assert report.notes[:2] == (
        "skip entry 'count/b' in F32 matches no case",
        "xfail entry 'cuont/*' matches no case",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[skip]]\ncase = 'a'", "skip entry 1"),
        ("[[skip]]\ncase = 'a'\nreason = ' '", "that say something"),
        ("[[xfail]]\ncase = 'a'\nreason = 'x'\n[[xfail]]\ncase = 3\nreason = 'x'", "xfail entry 2"),
        ("[[skip]]\ncase = 'a'\nreason = 'x'\ndtype = 'F8'", "dtype"),
        ("[[skip]]\ncase = 'a'\nreason = 'x'\nwhen = 'never'", "skip entry 1"),
        ("[[skpi]]\ncase = 'a'\nreason = 'x'", "keys"),
        ("skip = 3", "[[skip]]"),
        ("[[skip", "lists.toml"),
    ],
)
@pytest.mark.spec("CNF-17")
def test_lists_that_are_none_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "lists.toml"
    path.write_text(text)
    with pytest.raises(CompacterError) as caught:
        load_lists(path)
    assert caught.value.code is ErrorCode.E801
    assert said in str(caught.value)


def test_lists_are_read(tmp_path: Path) -> None:
    path = tmp_path / "lists.toml"
    path.write_text("[[skip]]\ncase = 'a/*'\nreason = ' why '\n[[xfail]]\ncase = 'b'\ndtype = 'F16'\nreason = 'x'\n")
    assert load_lists(path) == Lists((Entry("a/*", None, "why"),), (Entry("b", DType.F16, "x"),))
    with pytest.raises(CompacterError, match="E005"):
        load_lists(tmp_path / "none.toml")


def test_cases_about_limits_have_their_own_ceilings(tmp_path: Path) -> None:
    seen: list[Ceiling] = []

    class Subject(InProcess):
        def ask(self, request: Request, ceiling: Ceiling) -> Asked:
            seen.append(ceiling)
            return super().ask(request, ceiling)

    suite = in_memory(count_case("a"), count_case("b", flags=frozenset({Flag.LIMITS})))
    run_suite(suite, Subject(Scripted()), tmp_path, ceilings=Ceilings())
    assert seen == [USUAL, LIMITS]
    assert LIMITS.seconds < USUAL.seconds
    assert LIMITS.memory < USUAL.memory


@pytest.mark.spec("CNF-10")
def test_initialisation_is_asked_three_times(tmp_path: Path) -> None:
    def answer(request: Request) -> Answer:
        request.out.write_bytes(write_tensors({}, DType.F64))
        return Done()

    case = Case(
        id="init/x",
        statements=("CNF-10",),
        op=Op.INITIALISE,
        expect=Expectation(distribution={"w": {"kind": "normal", "std": 1.0}}),
        args={"config": {"hidden_size": 2}, "seed": 5, "draws": 2},
    )
    implementation = Scripted(answer, claims={ConformanceClass.INITIALISATION: ()})
    with pytest.raises(CompacterError):  # the configuration is none, which the judge finds out
        run(in_memory(case), tmp_path, implementation)
    assert [request.args["seed"] for request in implementation.requests] == [5, 5, 6]
    assert len({request.out for request in implementation.requests}) == 3
