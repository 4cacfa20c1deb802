"""Serving an implementation in Python, and finding one by its name."""

import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from compacter_core.adapter import DType
from compacter_core.conformance.child import Child
from compacter_core.conformance.implementation import Done, Rejected, Request
from compacter_core.conformance.protocol import (
    FILE_ARGUMENTS,
    answer_from_json,
    decode_line,
    encode_line,
    request_from_json,
    request_to_json,
)
from compacter_core.conformance.resolve import resolve
from compacter_core.conformance.runner import run_suite
from compacter_core.conformance.serve import serve
from compacter_core.conformance.words import Op, Verdict
from compacter_core.errors import CompacterError, ErrorCode
from tests.conformance.fakes.talkative import Talkative
from tests.conformance.suites import Scripted, count_case, in_memory

ROOT = Path(__file__).parents[2]
TALKATIVE = "tests.conformance.fakes.talkative:create"
START = {"seq": 0, "cmd": "start", "protocol": 1, "spec": "1.0", "scratch": "/scratch"}


def talk(*messages: object, implementation: Scripted | None = None) -> list[dict[str, object]]:
    lines = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
    answers = io.BytesIO()
    serve(implementation or Scripted(), io.BytesIO(lines), answers)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


@pytest.mark.spec("CNF-14", "CNF-15")
def test_whatever_is_printed_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command = shlex.join([sys.executable, "-m", "compacter_core.conformance.serve", TALKATIVE])
    cases = [count_case(name) for name in ("good", "raise", "reject", "skip", "exit", "zzz")]
    child = Child(command, tmp_path)
    try:
        report = run_suite(in_memory(*cases), child, tmp_path)
    finally:
        child.close()
    results = {result.case.removeprefix("count/"): result for result in report.results}
    assert results["good"].verdict is Verdict.PASSED
    assert results["raise"].verdict is Verdict.ERROR
    assert "ValueError: no idea" in str(results["raise"].detail)
    assert "got the rejection E207" in str(results["reject"].detail)
    assert (results["skip"].verdict, results["skip"].detail) == (Verdict.SKIPPED, "not today")
    assert results["exit"].verdict is Verdict.ERROR
    assert "exit code 9" in str(results["exit"].detail)
    assert results["zzz"].verdict is Verdict.PASSED


@pytest.mark.spec("CNF-14", "CNF-15")
def test_the_messages_are_those_of_the_specification() -> None:
    implementation = Scripted(lambda request: Rejected("E304") if request.op is Op.FORWARD else Done({"parameters": 3}))
    run = {
        "seq": 7,
        "cmd": "run",
        "case": "forward/lphm/rank2-003",
        "op": "forward",
        "dtype": "F32",
        "args": {
            "adapter": "7.adapter.safetensors",
            "inputs": "7.inputs.safetensors",
            "site": "encoder.0.ffn",
            "outputs": ["delta", "y"],
        },
        "out": "7.out",
    }
    start, answer, stop = talk(START, run, {"seq": 8, "cmd": "stop"}, implementation=implementation)
    assert start["ok"] == {
        "implementation": {"name": "scripted", "version": "1"},
        "claims": {"R": []},
        "accumulate": dict.fromkeys(DType, "F64"),
    }
    assert answer == {"seq": 7, "rejected": {"code": "E304"}}
    assert stop == {"seq": 8, "ok": {}}
    (request,) = implementation.requests
    assert request.dtype is DType.F32
    assert request.files["adapter"] == Path("/scratch/7.adapter.safetensors")
    assert request.out == Path("/scratch/7.out")
    assert request.args == {"site": "encoder.0.ffn", "outputs": ["delta", "y"]}
    assert request_to_json(request) == {key: run[key] for key in run if key not in ("seq", "cmd")}


@pytest.mark.parametrize("op", Op)
def test_requests_come_back_from_their_messages(op: Op, tmp_path: Path) -> None:
    files = {name: tmp_path / f"1.{name}.bin" for name in FILE_ARGUMENTS[op]}
    dtype = DType.BF16 if op.belongs_to.has_numbers else None
    request = Request(case="a/b", op=op, dtype=dtype, files=files, args={"seed": 1}, out=tmp_path / "1.out")
    assert request_from_json(decode_line(encode_line(request_to_json(request))), tmp_path) == request
    assert ("dtype" in request_to_json(request)) == (dtype is not None)


def test_a_line_is_a_line_whatever_is_in_it() -> None:
    message = {"args": {"text": 'two\nlines,\u2028 größer, "\ud800"'}}
    line = encode_line(message)
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert decode_line(line) == message


@pytest.mark.parametrize("seq", [True, "1", None, 2])
def test_true_is_not_the_number_1(seq: object) -> None:
    assert answer_from_json({"seq": 1, "ok": {}}, 1) == Done()
    with pytest.raises(CompacterError, match="has another seq"):
        answer_from_json({"seq": seq, "ok": {}}, 1)


def test_the_end_of_the_input_ends_the_service() -> None:
    assert len(talk(START)) == 1


@pytest.mark.parametrize(
    "message", [3, {"cmd": "dance"}, {}, {**START, "protocol": 2}, {**START, "cmd": None}], ids=str
)
def test_another_protocol_is_refused(message: object) -> None:
    with pytest.raises(CompacterError) as caught:
        talk(message)
    assert caught.value.code is ErrorCode.E801


@pytest.mark.parametrize("change", [{"op": "dance"}, {"dtype": "F8"}, {"args": 3}, {"out": None}])
def test_a_request_that_is_none_is_an_error_of_the_case(change: dict[str, object]) -> None:
    run = {"seq": 1, "cmd": "run", "case": "a", "op": "count", "args": {}, "out": "1.out"} | change
    _, answer = talk(START, run)
    assert "E801" in str(answer["error"])


def test_an_implementation_is_found_by_module_and_function(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert isinstance(resolve(TALKATIVE), Talkative)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_own_implementation.py").write_text(f"from {Talkative.__module__} import create as make\n")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert isinstance(resolve("my_own_implementation:make"), Talkative)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:create", "there is no module no_such_module"),
        ("tests.no_such_module:create", "there is no module tests.no_such_module"),
        (f"{TALKATIVE}_no", "has no function create_no"),
        ("tests.conformance.fakes.talkative:NUMBER", "has no function NUMBER"),
        (f"{TALKATIVE}_nothing", "returned int, no implementation"),
        ("no-such-name", "no such implementation"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused(name: str, said: str) -> None:
    with pytest.raises(CompacterError) as caught:
        resolve(name)
    assert caught.value.code is ErrorCode.E001
    assert said in str(caught.value)


def test_a_missing_package_of_a_module_is_no_missing_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "needy_implementation.py").write_text("import no_such_package\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        resolve("needy_implementation:create")


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ([], 2, "usage"),
        (["--help"], 0, "usage"),
        (["a", "b"], 2, "usage"),
        (["no-such-name"], 2, "E001"),
        ([TALKATIVE], 0, "imported"),
    ],
)
def test_the_command_line_of_the_server(argv: list[str], code: int, said: str) -> None:
    command = [sys.executable, "-m", "compacter_core.conformance.serve", *argv]
    done = subprocess.run(command, cwd=ROOT, input="", capture_output=True, check=False, timeout=60, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(said)
