"""The frame: exit codes, one line per error, JSON, and no heavy import before there is work."""

import argparse
import json
from collections.abc import Callable

import pytest

from compacter_core.cli import main as main_module
from compacter_core.cli.command import Outcome, Run, needs, new_parser
from compacter_core.cli.graft import FORMS
from compacter_core.cli.main import build_parser, main
from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.forms import Form
from tests.support.blocking import run_blocked

COMMANDS = (
    "train",
    "export",
    "graft",
    "pack",
    "run",
    "verify",
    "inspect",
    "extract",
    "count",
    "import",
    "export-adapter",
    "conformance",
)
HEAVY = (
    "numpy",
    "safetensors",
    "torch",
    "transformers",
    "datasets",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "tokenizers",
    "tqdm",
    "matplotlib",
)

Use = Callable[[Run], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Makes `compacter do` run a function."""

    def replace(run: Run) -> None:
        parser = argparse.ArgumentParser(prog="compacter")
        new_parser(parser.add_subparsers(), "do", run, summary="Do it", examples="compacter do")
        monkeypatch.setattr(main_module, "build_parser", lambda: parser)

    return replace


def _raising(error: BaseException) -> Run:
    def run(args: argparse.Namespace) -> Outcome:
        raise error

    return run


def _error() -> CompacterError:
    return CompacterError(ErrorCode.E001, "first\nsecond", value=3, expected="four", remedy="Count.")


def test_every_command_is_there() -> None:
    subparsers = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert tuple(subparsers.choices) == COMMANDS


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = f"from compacter_core.cli.main import main\nmain({command.split()!r} + ['--help'])"
    done = run_blocked(code, HEAVY)
    assert done.returncode == 0, done.stderr
    assert "usage: compacter" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples_json_and_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert f"\nexamples:\n  compacter {command} " in text
    assert "--json" in text
    assert "exit codes:" in text


@pytest.mark.parametrize("argv", [[], ["frobnicate"], ["inspect"], ["run", "--no-such-option"], ["run", "m", "--js"]])
def test_usage_errors_exit_with_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
def test_an_outcome_is_text_or_json(use: Use, capsys: pytest.CaptureFixture[str], ok: bool, code: int) -> None:
    use(lambda args: Outcome({"answer": "größer"}, "as text", ok=ok))
    assert main(["do"]) == code
    assert capsys.readouterr() == ("as text\n", "")
    assert main(["do", "--json"]) == code
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"answer": "größer"}
    assert shown.err == ""


def test_an_error_is_one_line(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(_raising(_error()))
    assert main(["do"]) == 2
    assert capsys.readouterr() == ("", "compacter: E001: first second; got 3; expected four. Count.\n")


def test_an_error_is_json_where_json_is_wanted(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(_raising(_error()))
    assert main(["do", "--json"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert json.loads(shown.err) == {"error": _error().as_dict()}


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PermissionError(13, "Permission denied", "secret.txt"), 2, "E005: secret.txt: Permission denied"),
        (RuntimeError("two\nlines"), 3, "internal error, RuntimeError: two lines"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_nothing_else_shows_a_traceback(
    use: Use, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    use(_raising(error))
    assert main(["do"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.count("\n") == 1


def test_debug_shows_the_traceback(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(_raising(RuntimeError("deep")))
    assert main(["do", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error() -> None:
    code = """
import os, sys
from compacter_core.cli import main as m
from compacter_core.cli.command import Outcome
import argparse
class P(argparse.ArgumentParser):
    def parse_args(self, argv=None):
        return argparse.Namespace(json=False, debug=False, run=lambda args: Outcome({}, "x" * 10**6))
m.build_parser = P
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
sys.exit(m.main([]))
"""
    done = run_blocked(code, ())
    assert (done.returncode, done.stderr) == (0, "")


def test_needs_names_the_package_and_the_extra() -> None:
    with pytest.raises(CompacterError) as caught, needs("onnx"):
        raise ModuleNotFoundError("No module named 'onnx_ir.passes'", name="onnx_ir.passes")
    assert caught.value.code is ErrorCode.E004
    assert "onnx_ir" in str(caught.value)
    assert 'pip install "compacter-core[onnx]"' in str(caught.value)


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("train --backbone b --train t --validation v -o o", "torch", "torch"),
        ("export b -o o", "torch", "export,cpu"),
        ("graft b a -o o", "onnx_ir", "onnx"),
        ("run m text", "onnxruntime", "cpu"),
        ("run m text", "tokenizers", "cpu"),
        ("verify m --adapter a", "onnxruntime", "onnx,cpu"),
        ("inspect m.onnx", "onnx_ir", "onnx"),
        ("extract m.onnx -o o", "onnx_ir", "onnx"),
    ],
)
def test_a_missing_extra_is_e004_with_its_remedy(command: str, package: str, extra: str) -> None:
    code = f"import sys\nfrom compacter_core.cli.main import main\nsys.exit(main({command.split()!r}))"
    done = run_blocked(code, [package])
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("compacter: E004")
    assert done.stderr.count("\n") == 1
    assert f'pip install "compacter-core[{extra}]"' in done.stderr


def test_the_forms_offered_are_those_there_are() -> None:
    assert set(FORMS) == {form.value for form in Form}
