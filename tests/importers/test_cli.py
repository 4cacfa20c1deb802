"""`compacter import` for OpenDelta, the paper's code and PEFT: one file, or a code and nothing."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from compacter_core.cli.main import main
from compacter_core.format.reader import load_content
from tests.importers.checkpoints import Calls, save_pickle
from tests.importers.fixtures.tiny import build, save_backbone
from tests.importers.test_peft import save_ours, save_peft

FIXTURES: Final = Path(__file__).parent / "fixtures"

Call = Callable[..., Any]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command line with --json and returns its result, or the error's fields."""

    def run(*argv: object, code: int = 0) -> Any:
        assert main([*map(str, argv), "--json"]) == code
        shown = capsys.readouterr()
        return json.loads(shown.err.splitlines()[-1])["error"] if code else json.loads(shown.out)

    return run


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories of the fixtures' backbones."""
    classes = {"bert": "BertForSequenceClassification", "t5": "T5ForConditionalGeneration"}
    return {
        model_type: save_backbone(build(model_class, model_type), tmp_path_factory.mktemp(model_type))
        for model_type, model_class in classes.items()
    }


def test_opendelta(call: Call, backbones: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "adapter.safetensors"
    source = FIXTURES / "opendelta" / "bert-compacter"
    arguments = ["import", "opendelta", source, "--backbone", backbones["bert"], "--allow-pickle", "-o", output]
    found = call(*arguments)
    content = load_content(output, expected_sha256=found["sha256"])
    assert content.adapter.config.head is not None
    assert (found["sites"], found["recognises_backbone"], found["head"]) == (4, True, "text-classification")
    assert call(*arguments, "--without-head")["head"] is None


def test_compacter_paper(call: Call, backbones: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "adapter.safetensors"
    source = FIXTURES / "paper" / "compacter"
    found = call("import", "compacter-paper", source, "--backbone", backbones["t5"], "--allow-pickle", "-o", output)
    content = load_content(output, expected_sha256=found["sha256"])
    assert (found["name"], found["method"], found["sites"]) == ("mrpc", "compacter", 6)
    assert len(content.adapter.config.overrides) == 9


def test_peft(call: Call, tmp_path: Path) -> None:
    save_ours(tmp_path / "ours")
    found = call("import", "peft", tmp_path / "ours", "-o", tmp_path / "adapter.safetensors")
    assert load_content(tmp_path / "adapter.safetensors").sha256 == load_content(tmp_path / "ours").sha256
    assert found["recognises_backbone"]


@pytest.mark.parametrize(
    "case",
    [
        ("opendelta", "opendelta/bert-compacter", [], "E001"),
        ("opendelta", "opendelta/bert-compacter", ["--backbone", "bert"], "E112"),
        ("opendelta", "paper/compacter", ["--backbone", "bert", "--allow-pickle"], "E501"),
        ("opendelta", "opendelta/t5-compacter", ["--backbone", "bert", "--allow-pickle"], "E502"),
        ("opendelta", "opendelta/bert-compacter", ["--backbone", "nowhere", "--allow-pickle"], "E005"),
        ("compacter-paper", "paper/compacter", ["--allow-pickle"], "E001"),
        ("compacter-paper", "paper/compacter", ["--backbone", "t5"], "E112"),
        ("compacter-paper", "paper/compacter", ["--backbone", "bert", "--allow-pickle"], "E401"),
        ("compacter-paper", "opendelta/t5-compacter", ["--backbone", "t5", "--allow-pickle"], "E501"),
        ("peft", "opendelta/bert-compacter", [], "E501"),
        ("peft", "paper/compacter", ["--shared-parameters", "x"], "E001"),
    ],
)
def test_refusals_write_nothing(
    call: Call, backbones: dict[str, Path], tmp_path: Path, case: tuple[str, str, list[str], str]
) -> None:
    kind, source, options, code = case
    known = {**backbones, "nowhere": tmp_path / "nowhere"}
    arguments = [known.get(option, option) for option in options]
    error = call("import", kind, FIXTURES / source, *arguments, "-o", tmp_path / "adapter.safetensors", code=2)
    assert error["code"] == code
    assert not list(tmp_path.iterdir())


def test_lora_is_refused_with_the_way_to_use_it(call: Call, tmp_path: Path) -> None:
    source = save_peft(tmp_path / "lora", peft_type="LORA")
    error = call("import", "peft", source, "-o", tmp_path / "adapter.safetensors", code=2)
    assert error["code"] == "E502"
    assert "merge_and_unload" in error["remedy"]
    assert not (tmp_path / "adapter.safetensors").exists()


def test_a_hostile_pickle_runs_nothing_and_writes_nothing(
    call: Call, backbones: dict[str, Path], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    config = (FIXTURES / "opendelta" / "bert-compacter" / "config.json").read_bytes()
    (source / "config.json").write_bytes(config)
    trace = tmp_path / "trace"
    save_pickle(source / "pytorch_model.bin", {"weight": Calls(os.mkdir, str(trace))})
    output = tmp_path / "adapter.safetensors"
    error = call("import", "opendelta", source, "--backbone", backbones["bert"], "--allow-pickle", "-o", output, code=2)
    assert error["code"] == "E501"
    assert not trace.exists()
    assert not output.exists()
