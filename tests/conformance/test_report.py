"""Reports: the fields of the specification, a table for people, JUnit for services, and progress (CNF-19)."""

import io
import json
import math
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from compacter_core.adapter import DType
from compacter_core.conformance import progress as progress_module
from compacter_core.conformance.implementation import Capabilities
from compacter_core.conformance.junit import junit_bytes
from compacter_core.conformance.progress import Progress
from compacter_core.conformance.report import Report, Result, Row
from compacter_core.conformance.schemas import violations
from compacter_core.conformance.words import ConformanceClass, Op, Verdict

FORWARD, READER = ConformanceClass.FORWARD, ConformanceClass.READER


def result(
    case: str, verdict: Verdict = Verdict.PASSED, ratio: float | None = None, detail: str | None = None
) -> Result:
    return Result(
        case=case, op=Op.FORWARD, dtype=DType.F32, verdict=verdict, worst_ratio=ratio, detail=detail, seconds=0.25
    )


EVERY = tuple(result(f"forward/{verdict}", verdict, 0.5, f"because {verdict}") for verdict in Verdict)
COUNTED = Result(case="count/a", op=Op.COUNT, dtype=None, verdict=Verdict.PASSED, seconds=0.5, peak_memory=4096)
REPORT = Report(
    spec="1.0",
    manifest_sha256="ab" * 32,
    capabilities=Capabilities(
        name="mine", version="2", claims={READER: (), FORWARD: (DType.F32,)}, accumulate={DType.F32: DType.F64}
    ),
    started="2026-01-02T03:04:05+00:00",
    seconds=1.5,
    rows=(Row(READER, None, (COUNTED,), 1), Row(FORWARD, DType.F32, EVERY, 7)),
    notes=("something to know",),
)


@pytest.mark.spec("CNF-19")
def test_the_fields_are_those_of_the_specification() -> None:
    value = json.loads(json.dumps(REPORT.as_dict(), allow_nan=False))
    assert value["report"] == 1
    assert value["suite"] == {"spec": "1.0", "manifest_sha256": "ab" * 32}
    assert value["implementation"] == {"name": "mine", "version": "2"}
    assert value["claims"] == {"R": [], "F": ["F32"]}
    assert value["accumulate"] == {"F32": "F64"}
    assert (value["started"], value["seconds"], value["conformant"]) == ("2026-01-02T03:04:05+00:00", 1.5, False)
    reader, forward = value["classes"]
    counts = {"passed": 1, "failed": 1, "errors": 1, "skipped": 1, "xfailed": 1, "xpassed": 1}
    assert forward == {"class": "F", "dtype": "F32", **counts, "conformant": False, "worst_ratio": 0.5}
    assert reader == {
        "class": "R", "dtype": None, **dict.fromkeys(counts, 0), "passed": 1, "conformant": True, "worst_ratio": None
    }  # fmt: skip
    assert value["results"][0] == {
        "case": "count/a", "op": "count", "class": "R", "dtype": None, "verdict": "passed", "worst_ratio": None,
        "detail": None, "seconds": 0.5, "peak_memory": 4096,
    }  # fmt: skip
    assert [each["verdict"] for each in value["results"][1:]] == [verdict.value for verdict in Verdict]


@pytest.mark.spec("CNF-19")
def test_the_report_follows_its_schema() -> None:
    value = json.loads(json.dumps(REPORT.as_dict()))
    assert list(violations("report", value)) == []
    del value["results"][0]["verdict"]
    assert list(violations("report", value)) != []


def test_json_holds_no_infinity() -> None:
    row = Row(FORWARD, DType.F32, (result("a", Verdict.FAILED, math.inf), result("b", ratio=0.25)), 2)
    report = replace(REPORT, rows=(row,))
    value = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert [each["worst_ratio"] for each in value["results"]] == [None, 0.25]
    assert value["classes"][0]["worst_ratio"] == 0.25


@pytest.mark.spec("CNF-4")
@pytest.mark.parametrize(
    ("results", "cases", "conformant"),
    [
        ((result("a"), result("b")), 2, True),
        ((result("a"),), 2, False),
        ((), 0, False),
        *(((result("a"), result("b", verdict)), 2, False) for verdict in Verdict if verdict is not Verdict.PASSED),
    ],
)
def test_a_class_conforms_when_every_case_passes(results: tuple[Result, ...], cases: int, conformant: bool) -> None:
    row = Row(FORWARD, DType.F32, results, cases)
    assert row.conformant is conformant
    good = Row(READER, None, (COUNTED,), 1)
    assert replace(REPORT, rows=(good, row)).conformant is conformant
    assert replace(REPORT, rows=()).conformant is False


def test_the_text_shows_the_table_and_what_is_wrong() -> None:
    lines = REPORT.as_text().splitlines()
    assert lines[0] == "mine 2 against suite 1.0 (abababababab), 1.5 s"
    assert lines[2].split() == ["R", "1/1", "conformant"]
    assert lines[3].startswith("F F32     1/7")
    assert "0.5000" in lines[3]
    assert "1 failed, 1 errors, 1 skipped, 1 xfailed, 1 xpassed, 1 not chosen" in lines[3]
    text = "\n".join(lines)
    for shown in ("FAILED forward/failed [F32]\n    because failed", "ERROR forward/error", "XPASSED forward/xpassed"):
        assert shown in text
    assert "forward/skipped" not in text
    assert "note: something to know" in text
    assert lines[-1] == "not conformant: F F32"


def test_the_text_of_many_failures_ends() -> None:
    many = tuple(result(f"f/{i}", Verdict.FAILED, detail=f"got {i}") for i in range(100))
    text = replace(REPORT, rows=(Row(FORWARD, DType.F32, many, 100),)).as_text()
    assert "... and 70 more, see the report" in text
    assert "f/30" not in text


def test_failures_that_say_the_same_are_told_once() -> None:
    same = [replace(result(f"f/{i}", Verdict.ERROR, detail="KeyError: 'W'"), reproduce=f"run f/{i}") for i in range(22)]
    other = [result("f/other", Verdict.FAILED, detail="KeyError: 'W'"), result("f/alone", Verdict.ERROR, detail="else")]
    report = replace(REPORT, rows=(Row(FORWARD, DType.F32, (*same, *other), 24),))
    text = report.as_text()
    first = "ERROR f/0 [F32], f/1 [F32], f/2 [F32] and 19 more (22 cases say the same)"
    assert f"{first}\n    KeyError: 'W'\n    reproduce: run f/0\nFAILED f/other [F32]\n    KeyError: 'W'\n" in text
    assert "ERROR f/alone [F32]\n    else\n" in text
    assert text.count("reproduce") == 1
    assert [each["detail"] for each in report.as_dict()["results"][20:23]] == [
        "KeyError: 'W'\nreproduce: run f/20", "KeyError: 'W'\nreproduce: run f/21", "KeyError: 'W'"
    ]  # fmt: skip


def test_the_text_of_a_good_run_says_so() -> None:
    good = Row(FORWARD, DType.F32, (result("a", ratio=0.1),), 1)
    assert replace(REPORT, rows=(good,)).as_text().splitlines()[-1] == "conformant: F F32"
    part = replace(good, cases=2)
    assert "everything that was run passed" in replace(REPORT, rows=(part,)).as_text()


def test_junit_counts_and_shows() -> None:
    root = ElementTree.fromstring(junit_bytes(REPORT))  # noqa: S314  # our own bytes
    assert root.tag == "testsuites"
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7", "failures": "2", "errors": "1", "skipped": "2",
    }  # fmt: skip
    reader, forward = root
    assert (reader.get("name"), forward.get("name")) == ("R", "F F32")
    case = forward.find("testcase[@name='forward/failed[F32]']")
    assert case is not None
    assert (case.get("classname"), case.get("time")) == ("F.forward", "0.250000")
    failure = case.find("failure")
    assert failure is not None
    assert failure.text == "because failed"
    tags = [child.tag for each in forward for child in each]
    assert sorted(tags) == ["error", "failure", "failure", "skipped", "skipped"]


def test_junit_is_xml_whatever_the_details_hold() -> None:
    nasty = "\x00\x1b[31m<&\"'>]]>\ud800\ufffe\U0001f600\nsecond line"
    row = Row(FORWARD, DType.F32, (result("a", Verdict.ERROR, detail=nasty), result("b", Verdict.FAILED, detail="")), 2)
    root = ElementTree.fromstring(junit_bytes(replace(REPORT, rows=(row,))))  # noqa: S314
    error = root.find(".//error")
    assert error is not None
    assert error.text == "��[31m<&\"'>]]>��\U0001f600\nsecond line"
    assert error.get("message") == "��[31m<&\"'>]]>��\U0001f600"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_silent_where_nobody_watches_a_quick_run(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    with Progress(2, stream) as shown:
        shown.step("a", is_good=True)
    assert stream.getvalue() == ""
    monkeypatch.setattr(progress_module, "_QUIET_SECONDS", 0.0)
    with Progress(2, stream) as shown:
        shown.step("a", is_good=True)
        shown.step("b", is_good=False)
    assert stream.getvalue() == "1/2 cases, 0 not passed\n"


def test_progress_is_live_on_a_terminal() -> None:
    stream = Terminal()
    with Progress(2, stream) as shown:
        shown.step("first/case", is_good=False)
        shown.step("second/case", is_good=True)
    assert "2/2" in stream.getvalue()


def test_progress_needs_no_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_bar", lambda total, stream: None)
    monkeypatch.setattr(progress_module, "_REDRAW_SECONDS", 0.0)
    stream = Terminal()
    with Progress(2, stream) as shown:
        shown.step("first/case", is_good=False)
        shown.step("second/case", is_good=True)
    assert stream.getvalue().endswith("\r\x1b[K2/2 cases, 1 not passed, second/case\n")


def test_progress_can_be_off() -> None:
    with Progress(1, None) as shown:
        shown.step("a", is_good=True)
