"""Behind the pipe: whatever a child does, the run goes on and says what happened (CNF-14 to CNF-16)."""

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from compacter_core.adapter import DType
from compacter_core.conformance import child as child_module
from compacter_core.conformance import process as process_module
from compacter_core.conformance.case import Expectation
from compacter_core.conformance.child import Child
from compacter_core.conformance.memory import is_measured
from compacter_core.conformance.protocol import decode_line, encode_line
from compacter_core.conformance.report import Report, Result
from compacter_core.conformance.runner import MIB, Ceilings, Selection, run_suite
from compacter_core.conformance.schemas import violations
from compacter_core.conformance.subject import Ceiling
from compacter_core.conformance.words import ConformanceClass, Op, Verdict
from compacter_core.errors import CompacterError, ErrorCode
from tests.conformance.suites import count_case, in_memory

FAKES = Path(__file__).with_name("fakes")
CASES = tuple(count_case(name, expect=count_case().expect) for name in "abc")
READER = Selection(classes=(ConformanceClass.READER,))
QUICK = Ceiling(1.0, 50 * MIB)
PATIENT = Ceiling(60.0, 50 * MIB)
needs_memory = pytest.mark.skipif(not is_measured(), reason="this system does not tell other processes' memory")


def command(fake: str, *args: str) -> str:
    return shlex.join([sys.executable, "-S", str(FAKES / fake), *args])


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "_STOP_SECONDS", 0.5)


@pytest.fixture
def children(scratch: Path) -> Iterator[list[Child]]:
    """Every child of a test, ended after it."""
    made: list[Child] = []
    yield made
    for child in made:
        child.close()


def run(scratch: Path, mode: str, *args: str, ceiling: Ceiling = PATIENT) -> Report:
    child = Child(command("child.py", mode, *args), scratch)
    try:
        return run_suite(in_memory(*CASES), child, scratch, selection=READER, ceilings=Ceilings(ceiling, ceiling))
    finally:
        child.close()


def run_b(scratch: Path, mode: str, *args: str, ceiling: Ceiling = PATIENT) -> Result:
    """The result of the case at which the fake misbehaves; the cases around it have to pass."""
    first, second, third = run(scratch, mode, *args, ceiling=ceiling).results
    assert (first.verdict, third.verdict) == (Verdict.PASSED, Verdict.PASSED), third.detail
    return second


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_good_child_passes(scratch: Path) -> None:
    report = run(scratch, "good")
    assert report.conformant
    assert report.capabilities.name == "fake"
    assert report.capabilities.accumulate == {DType.F32: DType.F64}
    assert all(result.seconds > 0 for result in report.results)
    assert list(scratch.iterdir()) == []


@pytest.mark.spec("CNF-14", "CNF-15")
def test_every_message_follows_the_schema(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[object] = []

    def sent(message: Mapping[str, object]) -> bytes:
        messages.append(json.loads(json.dumps(message)))
        return encode_line(message)

    def received(line: bytes) -> dict[str, Any]:
        messages.append(json.loads(line))
        return decode_line(line)

    monkeypatch.setattr(child_module, "encode_line", sent)
    monkeypatch.setattr(child_module, "decode_line", received)
    assert run(scratch, "good").conformant
    assert len(messages) == 2 + 2 * len(CASES) + 1
    assert [list(violations("message", message)) for message in messages] == [[]] * len(messages)
    assert list(violations("message", {"seq": 0, "cmd": "begin"})) != []


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("crash", "ended with exit code 3; the end of standard error: something | terrible happened"),
        ("killed", "ended by signal 9"),
        ("noise", "is not JSON"),
        ("flood", "is not JSON"),
        ("[1]", "is no JSON object"),
        ("7", "is no JSON object"),
        ('{"seq": 1}', "has another seq"),
        ('{"ok": {"parameters": 3}}', "has another seq"),
        ('{"seq": true, "ok": {}}', "has another seq"),
        ('{"seq": SEQ}', "is no answer"),
        ('{"seq": SEQ, "ok": 3}', "is no answer"),
        ('{"seq": SEQ, "ok": {"parameters": 3}, "rejected": {"code": "E101"}}', "is no answer"),
        ('{"seq": SEQ, "rejected": {"code": 101}}', "is no answer"),
        ('{"seq": SEQ, "error": {"message": "out of ideas"}}', "out of ideas"),
        ("[" * 100_000, "is not JSON"),
    ],
)
@pytest.mark.spec("CNF-14", "CNF-16")
def test_no_answer_is_an_error_and_the_run_goes_on(scratch: Path, mode: str, said: str) -> None:
    result = run_b(scratch, mode)
    assert result.verdict is Verdict.ERROR
    assert said in str(result.detail)


@pytest.mark.parametrize("mode", ["hang", "half_line", "late", "hang_with_child"])
@pytest.mark.spec("CNF-16")
def test_a_late_answer_is_none(scratch: Path, mode: str) -> None:
    result = run_b(scratch, mode, ceiling=QUICK)
    assert result.verdict is Verdict.ERROR
    assert "no answer within 1 s" in str(result.detail)
    assert 1.0 <= result.seconds < 10


def test_a_child_that_closes_its_output_is_not_waited_for(scratch: Path) -> None:
    assert "closed its standard output" in str(run_b(scratch, "close_output").detail)


def test_the_whole_process_group_ends(scratch: Path) -> None:
    run_b(scratch, "hang_with_child", ceiling=QUICK)
    grandchild = int((scratch.parent / "grandchild").read_text())
    deadline = time.monotonic() + 10
    while not has_ended(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert has_ended(grandchild)


@needs_memory
@pytest.mark.parametrize("mode", ["memory", "memory_hang", "memory_in_child"])
@pytest.mark.spec("CNF-16")
def test_memory_has_a_ceiling(scratch: Path, mode: str) -> None:
    result = run_b(scratch, mode)
    assert result.verdict is Verdict.ERROR
    assert "MiB of memory, more than 50 MiB" in str(result.detail)
    assert result.peak_memory is not None
    assert result.peak_memory > 50 * MIB
    assert result.seconds < 30


@needs_memory
@pytest.mark.spec("CNF-16")
def test_memory_is_looked_at_after_the_answer_too(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_TICK", 60.0)  # never while there is none
    result = run_b(scratch, "memory")
    assert result.verdict is Verdict.ERROR
    assert "MiB of memory, more than 50 MiB" in str(result.detail)


@needs_memory
def test_memory_below_the_ceiling_is_reported(scratch: Path) -> None:
    first, second, third = run(scratch, "memory", ceiling=Ceiling(60.0, 300 * MIB)).results
    assert second.verdict is Verdict.PASSED
    peaks = [result.peak_memory or 0 for result in (first, second, third)]
    assert peaks[1] >= 99 * MIB  # the kernel counts a little late
    assert max(peaks[0], peaks[2]) < 50 * MIB


def test_without_proc_memory_is_not_measured(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "is_measured", lambda: False)
    report = run(scratch, "memory")
    assert [result.peak_memory for result in report.results] == [None, None, None]
    assert report.conformant
    assert any("memory was not measured" in note for note in report.notes)


def test_a_flood_of_errors_blocks_nothing(scratch: Path) -> None:
    assert run_b(scratch, "flood_errors").verdict is Verdict.PASSED


def test_a_long_line_is_not_kept(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "MAX_LINE", 1000)
    assert "a line of more than 1000 bytes" in str(run_b(scratch, "x" * 100_000).detail)


def test_a_child_that_does_not_read_blocks_nothing(scratch: Path, children: list[Child]) -> None:
    child = Child(command("child.py", "deaf"), scratch)
    children.append(child)
    case = count_case("b", args={"config": {"answer": 3, "filling": "x" * 2**20}})
    report = run_suite(in_memory(case), child, scratch, selection=READER, ceilings=Ceilings(QUICK, QUICK))
    assert "no answer within 1 s" in str(report.results[0].detail)


def test_an_end_between_two_cases_is_an_error_of_the_second(scratch: Path) -> None:
    first, second, third = run(scratch, "crash_late").results
    assert (first.verdict, second.verdict, third.verdict) == (Verdict.PASSED, Verdict.PASSED, Verdict.ERROR)
    assert "exit code 4" in str(third.detail)


def test_a_child_that_does_not_start_again_is_not_asked_again(scratch: Path, tmp_path: Path) -> None:
    first, second, third = run(scratch, "crash", str(tmp_path / "marker")).results
    assert (first.verdict, second.verdict, third.verdict) == (Verdict.PASSED, Verdict.ERROR, Verdict.ERROR)
    assert "not run: the implementation could not be started again" in str(third.detail)
    assert "no second time" in str(third.detail)


def test_a_stubborn_child_is_ended(scratch: Path) -> None:
    began = time.monotonic()
    assert run(scratch, "stop_never").conformant
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("mode", "verdict", "said"),
    [
        ("no_output", Verdict.ERROR, "no output file"),
        ("directory", Verdict.ERROR, "no output file"),
        ("pipe", Verdict.ERROR, "no output file"),
        ("pickle", Verdict.FAILED, "bytes differ from offset 0 on"),
    ],
)
def test_an_output_that_is_none_is_caught(
    scratch: Path, children: list[Child], mode: str, verdict: Verdict, said: str
) -> None:
    child = Child(command("child.py", mode), scratch)
    children.append(child)
    case = count_case("b", op=Op.WRITE, expect=Expectation(file="files/x"))
    suite = in_memory(case, files={"files/x": b"expected"})
    selection = Selection(classes=(ConformanceClass.WRITER,))
    (result,) = run_suite(suite, child, scratch, selection=selection).results
    assert result.verdict is verdict
    assert said in str(result.detail)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "exit code 1; the end of standard error: no licence found"),
        (("hello",), "is not JSON"),
        (('{"seq": 1, "ok": {}}',), "has another seq"),
        (('{"seq": 0, "skipped": {"reason": "busy"}}',), "not answered with ok"),
        (('{"seq": 0, "ok": {}}',), "does not describe an implementation"),
    ],
)
@pytest.mark.spec("CNF-14", "CNF-18")
def test_a_child_without_a_handshake_is_a_wrong_call(scratch: Path, args: tuple[str, ...], said: str) -> None:
    with pytest.raises(CompacterError) as caught:
        Child(command("handshake.py", *args), scratch).describe()
    assert caught.value.code is ErrorCode.E001
    assert said in str(caught.value)
    assert str(caught.value).count("E001") == 1
    assert "E801" not in str(caught.value)
    assert "flush" not in str(caught.value)


@pytest.mark.spec("CNF-14")
def test_a_child_that_does_not_flush_is_told_to(scratch: Path) -> None:
    child = Child(command("handshake.py", '{"seq": 0, "ok": {}}', "buffered"), scratch, start_seconds=0.5)
    with pytest.raises(CompacterError, match=r"no answer within 0.5 s.*flush standard output after every line"):
        child.describe()


@pytest.mark.parametrize(
    ("claims", "accumulate", "said"),
    [
        ({}, {}, "claims no class"),
        ({"X": []}, {}, "does not describe"),
        ({"F": ["F8"]}, {}, "does not describe"),
        ({"F": []}, {}, "claims class F in these types"),
        ({"R": ["F32"]}, {"F32": "F32"}, "claims class R in these types"),
        ({"F": ["F32", "F32"]}, {"F32": "F32"}, "claims class F in these types"),
        ({"F": ["F32"]}, {}, "without its type of sums"),
        ({"F": ["F32"]}, {"F32": "F8"}, "does not describe"),
        ([], {}, "does not describe"),
    ],
)
@pytest.mark.spec("CNF-18")
def test_claims_that_cannot_be_judged_are_refused(scratch: Path, claims: object, accumulate: object, said: str) -> None:
    start = {"implementation": {"name": "n", "version": "1"}, "claims": claims, "accumulate": accumulate}
    with pytest.raises(CompacterError, match=said):
        Child(command("handshake.py", json.dumps({"seq": 0, "ok": start})), scratch).describe()


@pytest.mark.parametrize("line", ["", "   ", "'unclosed", "/no/such/program --flag", os.curdir])
def test_a_command_that_is_none_is_a_wrong_call(scratch: Path, line: str) -> None:
    with pytest.raises(CompacterError) as caught:
        Child(line, scratch).describe()
    assert caught.value.code is ErrorCode.E001
