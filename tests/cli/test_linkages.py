"""graft, pack, run and verify of models that take adapters at run time, as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compacter_core.cli.main import main
from compacter_core.config import Projection
from compacter_core.format.writer import save_adapter
from tests.exporters.stacks import BackboneStack, StackOptions, make_adapter
from tests.support.served import served_tokenizer

Call = Callable[..., Any]
TEXTS = ("a b c", "[PAD]", "a")


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
    """A backbone with a tokenizer, an adapter and another one, and the two open models."""
    folder = tmp_path_factory.mktemp("linkages")
    backbone = folder / "backbone"
    backbone.mkdir()
    stack = BackboneStack(StackOptions(), hidden=8, seed=0)
    stack.save(backbone / "model.onnx")
    served_tokenizer().save(str(backbone / "tokenizer.json"))
    for name, seed in (("first", 1), ("second", 2)):
        adapter = make_adapter(stack, projection=Projection.compacter(phm_dim=2), bottleneck=4, seed=seed)
        save_adapter(adapter, folder / f"{name}.safetensors")
    for linkage in ("swappable", "bank"):
        line = ["graft", str(backbone), str(folder / "first.safetensors"), "-o", str(folder / linkage)]
        assert main([*line, "--linkage", linkage]) == 0
    return folder


@pytest.mark.parametrize("linkage", ["swappable", "bank"])
def test_open_models_answer_as_merged_ones(folder: Path, call: Call, tmp_path: Path, linkage: str) -> None:
    for name in ("first", "second"):
        adapter = folder / f"{name}.safetensors"
        call("graft", folder / "backbone", adapter, "-o", tmp_path / name)
        merged = call("run", tmp_path / name, *TEXTS)["predictions"]
        got = call("run", folder / linkage, *TEXTS, "--adapter", adapter)["predictions"]
        assert [one["label"] for one in got] == [one["label"] for one in merged]
        assert np.allclose([one["score"] for one in got], [one["score"] for one in merged], atol=1e-4)
        call("run", folder / linkage, *TEXTS, "--adapter", adapter, "--arrays", tmp_path / "out.npz")
        with np.load(tmp_path / "out.npz") as arrays:
            assert arrays["logits"].shape == (3, 5)


def test_without_an_adapter_the_backbone_answers(folder: Path, call: Call) -> None:
    bare = call("run", folder / "backbone", *TEXTS)["predictions"]
    assert call("run", folder / "swappable", *TEXTS)["predictions"] == bare


def test_a_packed_adapter(folder: Path, call: Call, tmp_path: Path) -> None:
    packed = tmp_path / "second.onnx_adapter"
    found = call("pack", folder / "swappable", folder / "second.safetensors", "-o", packed)
    assert found["bytes"] == packed.stat().st_size
    got = call("run", folder / "swappable", *TEXTS, "--adapter", packed)
    assert (
        got["predictions"]
        == call("run", folder / "swappable", *TEXTS, "--adapter", folder / "second.safetensors")["predictions"]
    )
    call("extract", packed, "-o", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (folder / "second.safetensors").read_bytes()
    sha256 = call("inspect", folder / "second.safetensors")["sha256"]
    assert call("inspect", packed)["sha256"] == sha256
    packed.write_bytes(packed.read_bytes()[:-1])
    assert call("run", folder / "swappable", *TEXTS, "--adapter", packed, code=2)["code"] == "E601"


@pytest.mark.parametrize("linkage", ["swappable", "bank"])
def test_verify_takes_several_adapters(folder: Path, call: Call, linkage: str) -> None:
    adapters = [argument for name in ("first", "second") for argument in ("--adapter", folder / f"{name}.safetensors")]
    report = call("verify", folder / linkage, *adapters)
    assert report["ok"]
    assert sum("encoder.0.ffn" in name and "no adapter" not in name for name in report["sites"]) == 2


def test_what_does_not_go_together(folder: Path, call: Call, tmp_path: Path) -> None:
    adapter = folder / "first.safetensors"
    open_it = ("graft", folder / "backbone", adapter, "-o", tmp_path / "x", "--linkage", "bank")
    assert call(*open_it, "--form", "plain", code=2)["code"] == "E001"
    assert call("pack", folder / "bank", adapter, "-o", tmp_path / "x", code=2)["code"] == "E703"
    assert call("run", folder / "backbone", "a", "--adapter", adapter, code=2)["code"] == "E703"
    call("graft", folder / "backbone", adapter, "-o", tmp_path / "merged")
    twice = ("--adapter", adapter, "--adapter", adapter)
    assert call("verify", tmp_path / "merged", *twice, code=2)["code"] == "E001"
