"""Two reports: what changed, and whether it got worse."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from compacter_core.conformance.diff import Diff, diff_reports
from compacter_core.conformance.report import Report, Result, Row
from compacter_core.conformance.words import Verdict
from compacter_core.errors import CompacterError, ErrorCode
from tests.conformance.test_report import COUNTED, FORWARD, REPORT, result

PASSED = Verdict.PASSED


def write(path: Path, *results: Result, report: Report = REPORT) -> Path:
    rows = (Row(FORWARD, results[0].dtype, results, len(results)),) if results else ()
    path.write_text(json.dumps(replace(report, rows=rows).as_dict()))
    return path


def diff(tmp_path: Path, before: tuple[Result, ...], after: tuple[Result, ...]) -> Diff:
    return diff_reports(write(tmp_path / "a.json", *before), write(tmp_path / "b.json", *after))


def test_equal_reports_have_no_difference(tmp_path: Path) -> None:
    found = diff(tmp_path, (result("a", ratio=0.5),), (result("a", ratio=0.5),))
    assert found == Diff(same_suite=True, verdicts=(), ratios=())
    assert found.as_text() == "no difference"


@pytest.mark.parametrize(
    ("before", "after", "is_worse"),
    [
        (Verdict.PASSED, Verdict.FAILED, True),
        (Verdict.PASSED, Verdict.ERROR, True),
        (Verdict.PASSED, Verdict.SKIPPED, True),
        (Verdict.PASSED, Verdict.XFAILED, True),
        (Verdict.FAILED, Verdict.ERROR, True),
        (Verdict.XFAILED, Verdict.XPASSED, True),
        (Verdict.SKIPPED, Verdict.FAILED, True),
        (Verdict.FAILED, Verdict.PASSED, False),
        (Verdict.ERROR, Verdict.FAILED, False),
        (Verdict.FAILED, Verdict.XPASSED, False),
        (Verdict.SKIPPED, Verdict.XFAILED, False),
    ],
)
def test_a_worse_verdict_is_worse(tmp_path: Path, before: Verdict, after: Verdict, is_worse: bool) -> None:
    found = diff(tmp_path, (result("a", before), result("b")), (result("a", after), result("b")))
    assert found.is_worse is is_worse
    assert [each.case for each in found.verdicts] == ["a"]
    word = "worse" if is_worse else "other"
    assert found.as_text() == f"{word}  a [F32]: {before} -> {after}"


@pytest.mark.parametrize("verdict", Verdict)
def test_a_case_that_is_gone_is_worse_if_it_passed(tmp_path: Path, verdict: Verdict) -> None:
    gone = diff(tmp_path, (result("a", verdict), result("b")), (result("b"),))
    assert gone.is_worse is (verdict is PASSED)
    assert gone.verdicts[0].after is None
    new = diff(tmp_path, (result("b"),), (result("a", verdict), result("b")))
    assert not new.is_worse
    assert "not there -> " in new.as_text()


def test_types_are_told_apart(tmp_path: Path) -> None:
    found = diff(tmp_path, (COUNTED,), (replace(COUNTED, dtype=result("a").dtype),))
    assert len(found.verdicts) == 2


def test_ratios_are_shown_but_are_not_worse(tmp_path: Path) -> None:
    before = (result("a", ratio=0.5), result("b", ratio=0.5), result("c", ratio=0.5), result("d"))
    after = (result("a", ratio=0.4), result("b", ratio=0.9), result("c", ratio=0.5), result("d", ratio=0.1))
    found = diff(tmp_path, before, after)
    assert [each.case for each in found.ratios] == ["b", "a"]
    assert not found.is_worse
    assert found.as_text().splitlines() == ["ratio  b [F32]: 0.5 -> 0.9", "ratio  a [F32]: 0.5 -> 0.4"]


def test_many_ratios_are_shortened_in_the_text_only(tmp_path: Path) -> None:
    before = tuple(result(f"{i:02}", ratio=0.5) for i in range(40))
    found = diff(tmp_path, before, tuple(result(f"{i:02}", ratio=0.6) for i in range(40)))
    assert len(found.as_dict()["ratios"]) == 40
    assert found.as_text().splitlines()[-1] == "... and 30 more ratios"


def test_different_suites_are_mentioned(tmp_path: Path) -> None:
    other = write(tmp_path / "b.json", result("a"), report=replace(REPORT, manifest_sha256="cd" * 32))
    found = diff_reports(write(tmp_path / "a.json", result("a")), other)
    assert found.as_text() == "the reports are about different suites"
    assert found.as_dict()["same_suite"] is False


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", ErrorCode.E801),
        (b"[]", ErrorCode.E801),
        (b'{"report": 2, "suite": {}, "results": []}', ErrorCode.E801),
        (b'{"report": 1, "results": []}', ErrorCode.E801),
        (b'{"report": 1, "suite": {}, "results": [{"case": "a"}]}', ErrorCode.E801),
        (b'{"report": 1, "suite": {}, "results": 3}', ErrorCode.E801),
        (
            b'{"report": 1, "suite": {}, "results": [{"case": "a", "dtype": null, "verdict": "fine"}]}',
            ErrorCode.E801,
        ),
        (None, ErrorCode.E005),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: bytes | None, code: ErrorCode) -> None:
    good, bad = write(tmp_path / "a.json", result("a")), tmp_path / "bad.json"
    if content is not None:
        bad.write_bytes(content)
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(CompacterError) as caught:
            diff_reports(*pair)
        assert caught.value.code is code
        assert "bad.json" in str(caught.value)
