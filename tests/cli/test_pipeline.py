"""export, graft, verify, run, extract and inspect, one after the other, as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from compacter_core.cli.main import main
from compacter_core.methods import create_config
from compacter_core.pytorch import attach, describe_backbone, save_pretrained
from compacter_exporters.graph_check import RELATIVE_LIMIT
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.checkpoints import write_checkpoint, write_tokenizer

LABELS = ("north", "east", "south")
TEXTS = ["w5 w6 w7", "w8", "w9 w10 w11 w12 w13"]

Call = Callable[..., Any]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command line with --json and returns its result, or the error's fields."""

    def run(*argv: object, code: int = 0) -> Any:
        assert main([*map(str, argv), "--json"]) == code
        shown = capsys.readouterr()
        return json.loads(shown.err)["error"] if code == 2 else json.loads(shown.out)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone exported by the command line, and a random adapter that is far from doing nothing."""
    folder = tmp_path_factory.mktemp("pipeline")
    checkpoint = write_checkpoint(folder / "checkpoint", "bert")
    write_tokenizer(checkpoint, model_max_length=40)
    assert main(["export", str(checkpoint), "-o", str(folder / "backbone"), "--backend", BACKENDS[0]]) == 0
    model = _model(folder)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    save_pretrained(model, folder / "adapter")
    torch.save(model.state_dict(), folder / "state.pt")
    assert main(["graft", str(folder / "backbone"), str(folder / "adapter"), "-o", str(folder / "merged")]) == 0
    return folder


def _model(folder: Path) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(folder / "checkpoint").eval()
    model.config.id2label = dict(enumerate(LABELS))
    attach(model, create_config(describe_backbone(model), reduction_factor=4))
    return model


def test_the_merged_model_answers_as_the_pytorch_model(folder: Path, call: Call, tmp_path: Path) -> None:
    model = _model(folder)
    model.load_state_dict(torch.load(folder / "state.pt"))
    call("run", folder / "merged", *TEXTS, "--arrays", tmp_path / "out.npz")
    predictions = call("run", folder / "merged", *TEXTS)["predictions"]
    with np.load(tmp_path / "out.npz") as arrays:
        logits = arrays["logits"]
    for text, row, prediction in zip(TEXTS, logits, predictions, strict=True):
        ids = torch.tensor([[1, *(int(word[1:]) for word in text.split()), 2]])
        with torch.no_grad():
            expected = model(input_ids=ids).logits.numpy()[0]
        assert np.abs(row - expected).max() <= RELATIVE_LIMIT * np.abs(expected).max()
        assert prediction["label"] == LABELS[expected.argmax()]


def test_the_merged_model_verifies(folder: Path, call: Call) -> None:
    report = call("verify", folder / "merged", "--adapter", folder / "adapter", "--seed", 1)
    assert report["ok"]
    assert set(report["sites"]) == {"encoder.0.self_attn", "encoder.0.ffn"}


def test_a_changed_model_does_not(folder: Path, call: Call, tmp_path: Path) -> None:
    model = onnx_ir.load(folder / "merged" / "model.onnx")
    onnx_ir.external_data.load_to_model(model)
    changed = 0
    for value in model.graph.initializers.values():
        if str(value.name).startswith("compacter/") and "ffn" in str(value.name) and value.const_value is not None:
            value.const_value = onnx_ir.tensor(value.const_value.numpy() * np.float32(1.01), name=value.name)
            changed += 1
    assert changed
    onnx_ir.save(model, tmp_path / "model.onnx")
    report = call("verify", tmp_path, "--adapter", folder / "adapter", code=1)
    assert not report["ok"]


def test_the_adapter_comes_back_byte_for_byte(folder: Path, call: Call, tmp_path: Path) -> None:
    original = folder / "adapter" / "adapter_model.safetensors"
    found = call("extract", folder / "merged" / "model.onnx", "-o", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == original.read_bytes()
    assert found["bytes"] == original.stat().st_size


def test_inspecting_a_model_is_inspecting_its_adapter(folder: Path, call: Call) -> None:
    of_file = call("inspect", folder / "adapter" / "adapter_model.safetensors")
    of_model = call("inspect", folder / "merged" / "model.onnx")
    assert of_file.pop("path") != of_model.pop("path")
    assert of_file == of_model
    assert of_file["config"]["head"]["labels"] == list(LABELS)


def test_the_model_can_be_served_from_its_directory_alone(folder: Path) -> None:
    for name in ("tokenizer.json", "config.json"):
        assert (folder / "merged" / name).read_bytes() == (folder / "backbone" / name).read_bytes()


def test_beside_the_backbone_the_weights_are_shared(folder: Path, call: Call) -> None:
    report = call("graft", folder / "backbone", folder / "adapter", "-o", folder / "backbone" / "north.onnx")
    assert report["shared"]
    assert call("run", folder / "backbone" / "north.onnx", *TEXTS) == call("run", folder / "merged", *TEXTS)


def test_a_directory_of_another_backbone_is_refused_before_anything_is_written(
    folder: Path, call: Call, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    error = call("graft", folder / "backbone", folder / "adapter", "-o", tmp_path, code=2)
    assert error["code"] == "E006"
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_what_a_graft_refuses_leaves_no_companions(folder: Path, call: Call, tmp_path: Path) -> None:
    error = call("graft", folder / "merged", folder / "adapter", "-o", tmp_path / "twice", code=2)
    assert error["code"] == "E605"
    assert not (tmp_path / "twice").exists()


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("inspect", "{}/backbone/model.onnx"), "E601"),
        (("extract", "{}/backbone/model.onnx", "-o", "never"), "E601"),
        (("inspect", "{}/checkpoint/config.json"), "E102"),
        (("inspect", "{}/absent.safetensors"), "E005"),
        (("verify", "{}/absent", "--adapter", "{}/adapter"), "E005"),
        (("verify", "{}/backbone", "--adapter", "{}/absent"), "E005"),
        (("graft", "{}/absent", "{}/adapter", "-o", "never"), "E005"),
    ],
)
def test_refusals(folder: Path, call: Call, argv: tuple[str, ...], code: str) -> None:
    assert call(*(part.format(folder) for part in argv), code=2)["code"] == code
