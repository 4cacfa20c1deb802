"""`compacter conformance`: options, output for people and programs, and the exit codes 0 to 3 (CNF-19)."""

import json
import shlex
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from compacter_core.adapter import DType
from compacter_core.cli import conformance as command
from compacter_core.cli.main import main
from compacter_core.conformance import runner
from compacter_core.conformance.generate import suite as generator
from compacter_core.conformance.suite import default_suite
from compacter_core.conformance.words import ConformanceClass
from tests.conformance.suites import count_case, forward_suite, on_disk
from tests.support.blocking import run_blocked

FAKE = Path(__file__).parents[1] / "conformance" / "fakes" / "child.py"
SUBCOMMANDS = ("run", "list", "validate", "generate", "diff")
TALKATIVE = "tests.conformance.fakes.talkative:create"


def fake(mode: str) -> str:
    return shlex.join([sys.executable, "-S", str(FAKE), mode])


@pytest.fixture
def suite(tmp_path: Path) -> str:
    on_disk(tmp_path / "suite", *(count_case(name) for name in "abc"))
    return str(tmp_path / "suite")


def run(suite: str, mode: str, *options: str) -> int:
    return main(["conformance", "run", "--command", fake(mode), "--suite", suite, "--classes", "R", *options])


@pytest.mark.spec("CNF-19")
@pytest.mark.parametrize(("mode", "code"), [("good", 0), ("crash", 1), ('{"seq": SEQ, "ok": {}}', 1)])
def test_the_exit_code_says_whether_it_conforms(suite: str, mode: str, code: int) -> None:
    assert run(suite, mode) == code


@pytest.mark.spec("CNF-19")
def test_a_refused_suite_is_exit_code_2(suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    cases = Path(suite) / "cases" / "count.json"
    cases.write_bytes(cases.read_bytes() + b" ")
    assert run(suite, "good") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("compacter: E801: suite: cases/count.json was changed")
    assert shown.err.count("\n") == 1


@pytest.mark.spec("CNF-19")
@pytest.mark.parametrize(
    "options",
    [
        ["--command", "/no/such/program"],
        ["--command", f"{sys.executable} -c pass"],
        ["--implementation", "no-such-name"],
        ["--implementation", "no_such_module:create"],
        ["--implementation", TALKATIVE, "--classes", "F"],
        ["--implementation", TALKATIVE, "--dtypes", "F32"],
        ["--implementation", TALKATIVE, "--case", "nothing"],
        ["--implementation", TALKATIVE, "--lists", "none.toml"],
        ["--implementation", TALKATIVE, "--suite", "nowhere"],
    ],
)
def test_a_wrong_call_is_exit_code_2(suite: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    where = [] if "--suite" in options else ["--suite", suite]
    assert main(["conformance", "run", *where, *options]) == 2
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1].startswith("compacter: E0")


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--command", "a", "--implementation", "b"],
        ["--command", "a", "--classes", "X"],
        ["--command", "a", "--dtypes", "F8"],
        ["--command", "a", "--timeout", "0"],
        ["--command", "a", "--timeout", "soon"],
        ["--command", "a", "--memory", "-1"],
        ["--command", "a", "--memory", "inf"],
    ],
)
def test_a_wrong_option_is_a_usage_error(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["conformance", "run", *options])
    assert left.value.code == 2
    assert "usage: compacter conformance run" in capsys.readouterr().err


@pytest.mark.spec("CNF-19")
def test_a_fault_of_the_runner_is_exit_code_3(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(*_: object) -> None:
        raise RuntimeError("the judge is ill")

    monkeypatch.setattr(runner, "judge", judge)
    assert run(suite, "good") == 3


def test_the_text_and_the_files(suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, junit = tmp_path / "out" / "report.json", tmp_path / "report.xml"
    assert run(suite, "crash", "--report", str(report), "--junit", str(junit)) == 1
    shown = capsys.readouterr()
    assert "R         2/3                     1 errors" in shown.out
    assert "ERROR count/b" in shown.out
    assert "terrible happened" in shown.out
    reproduce = f"compacter conformance run --command {shlex.quote(fake('crash'))} --suite {suite} --case count/b"
    assert reproduce in shown.out
    assert shown.err == ""
    value = json.loads(report.read_text())
    assert [result["verdict"] for result in value["results"]] == ["passed", "error", "passed"]
    assert ElementTree.parse(junit).getroot().get("errors") == "1"  # noqa: S314


def test_json_is_the_report_and_nothing_else(suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert run(suite, "good", "--json", "--report", str(report)) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads(report.read_text())
    assert shown.err == ""


def test_notes_are_kept_apart_from_json(suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = tmp_path / "lists.toml"
    lists.write_text("[[skip]]\ncase = 'count/z'\nreason = 'gone'\n")
    assert run(suite, "good", "--json", "--lists", str(lists)) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["conformant"] is True
    assert shown.err == "note: skip entry 'count/z' matches no case\n"


def test_lists_take_effect(suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = tmp_path / "lists.toml"
    lists.write_text("[[xfail]]\ncase = 'count/b'\nreason = 'it crashes'\n")
    assert run(suite, "crash", "--lists", str(lists), "--json") == 1
    verdicts = [result["verdict"] for result in json.loads(capsys.readouterr().out)["results"]]
    assert verdicts == ["passed", "xfailed", "passed"]


def test_chosen_cases_decide_alone(suite: str) -> None:
    assert run(suite, "crash", "--case", "count/a", "*/c") == 0
    assert run(suite, "crash", "--case", "count/a", "--case", "count/b") == 1


def test_a_claimed_class_without_cases_does_not_conform(suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["conformance", "run", "--command", fake("good"), "--suite", suite]
    assert main(argv) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("everything that was run passed; conformance would")
    assert main([*argv, "--case", "*"]) == 0


def test_the_ceilings_are_set(suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(suite, "hang", "--timeout", "0.5", "--case", "count/b") == 1
    assert "no answer within 0.5 s" in capsys.readouterr().out


def test_an_implementation_in_this_process(suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "run", "--implementation", TALKATIVE, "--suite", suite]) == 0
    assert "talkative 1 against suite 1.0" in capsys.readouterr().out


def test_cases_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forward_suite(tmp_path / "suite")
    where = ["conformance", "list", "--suite", str(tmp_path / "suite")]
    assert main(where) == 0
    assert capsys.readouterr().out == "F forward/integers F64,F32,F16,BF16\n1 cases\n"
    assert main([*where, "--json", "--dtypes", "F16"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["cases"] == [
        {
            "case": "forward/integers", "op": "forward", "class": "F", "dtypes": ["F16"], "flags": [],
            "statements": ["FWD-1"], "comment": "",
        }
    ]  # fmt: skip
    for options in (["--classes", "R"], ["--case", "backward/*"]):
        assert main([*where, *options]) == 0
        assert capsys.readouterr().out == "0 cases\n"


def test_reports_are_compared(suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = str(tmp_path / "good.json"), str(tmp_path / "bad.json")
    run(suite, "good", "--report", good)
    run(suite, "crash", "--report", bad)
    capsys.readouterr()
    assert main(["conformance", "diff", good, good]) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert main(["conformance", "diff", good, bad]) == 1
    assert capsys.readouterr().out == "worse  count/b: passed -> error\n"
    assert main(["conformance", "diff", bad, good, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["worse"] is False
    assert main(["conformance", "diff", good, suite]) == 2


def test_suites_are_validated(suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "validate"]) == 0
    assert capsys.readouterr().out.endswith("vectors: valid\n")
    (Path(suite) / "stranger").touch()
    assert main(["conformance", "validate", suite, "--json"]) == 1
    assert any(problem.startswith("stranger") for problem in json.loads(capsys.readouterr().out)["problems"])
    assert main(["conformance", "validate", str(tmp_path / "nowhere")]) == 2


@pytest.mark.parametrize(("found", "code"), [([], 0), (["cases/count.json"], 1)])
def test_a_suite_is_compared_with_what_would_be_made(
    found: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[Path, bool]] = []

    def generate(directory: Path, *, check: bool) -> list[str]:
        calls.append((directory, check))
        return found

    monkeypatch.setattr(generator, "generate", generate)
    assert main(["conformance", "generate", "--check", "-o", "somewhere", "--json"]) == code
    assert json.loads(capsys.readouterr().out) == {"suite": "somewhere", "different": found}
    assert main(["conformance", "generate"]) == 0
    assert capsys.readouterr().out.endswith("specs/vectors\n")
    assert calls == [(Path("somewhere"), True), (default_suite(), False)]


def test_the_choices_are_those_there_are() -> None:
    assert set(command.CLASSES) == {cls.value for cls in ConformanceClass}
    assert set(command.DTYPES) == {dtype.value for dtype in DType}


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_command_has_examples_json_and_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["conformance", name, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert f"\nexamples:\n  compacter conformance {name}" in text
    assert "--json" in text
    assert "exit codes:" in text


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_needs_no_numpy(name: str) -> None:
    code = f"from compacter_core.cli.main import main\nmain(['conformance', {name!r}, '--help'])"
    done = run_blocked(code, ["numpy", "safetensors", "mpmath", "onnx", "tqdm"])
    assert done.returncode == 0, done.stderr


def test_a_run_needs_only_the_core(suite: str) -> None:
    argv = ["conformance", "run", "--command", fake("good"), "--suite", suite, "--classes", "R"]
    code = f"import sys\nfrom compacter_core.cli.main import main\nsys.exit(main({argv!r}))"
    done = run_blocked(code, ["torch", "onnx", "tqdm", "mpmath", "jsonschema", "transformers", "onnxruntime"])
    assert done.returncode == 0, done.stderr
    assert "conformant: R" in done.stdout
