"""graft for a target, in another precision, or tuned, as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compacter_core.cli.main import main
from compacter_core.config import Projection
from compacter_core.format.writer import save_adapter
from compacter_exporters.graph import load_graph
from tests.exporters.stacks import BackboneStack, StackOptions, make_adapter

Call = Callable[..., Any]


@pytest.fixture(name="call")
def _call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Grafts with --json and more options; returns the result, or the error's fields."""
    stack = BackboneStack(StackOptions(), hidden=8, seed=0)
    stack.save(tmp_path / "backbone.onnx")
    save_adapter(make_adapter(stack, projection=Projection.compacter(phm_dim=2), bottleneck=4), tmp_path / "a.st")
    line = ["graft", str(tmp_path / "backbone.onnx"), str(tmp_path / "a.st"), "-o", str(tmp_path / "merged.onnx")]

    def run(*options: str, code: int = 0) -> Any:
        assert main([*line, *options, "--json"]) == code
        shown = capsys.readouterr()
        return json.loads(shown.err)["error"] if code == 2 else json.loads(shown.out)

    return run


def verified(tmp_path: Path) -> None:
    assert main(["verify", str(tmp_path / "merged.onnx"), "--adapter", str(tmp_path / "a.st")]) == 0


def test_precision(call: Call, tmp_path: Path) -> None:
    result = call("--precision", "int8")
    assert (result["target"], result["precision"]) == ("cpu", "int8")
    assert result["output"] == str(tmp_path / "merged.onnx")
    verified(tmp_path)


def test_target(call: Call, tmp_path: Path) -> None:
    assert call("--target", "tensorrt", "--precision", "fp16")["target"] == "tensorrt"
    verified(tmp_path)


@pytest.mark.parametrize("linkage", ["swappable", "bank"])
def test_open_graphs_for_cpus_keep_sums_apart(call: Call, tmp_path: Path, linkage: str) -> None:
    assert call("--linkage", linkage, "--target", "cpu")["linkage"] == linkage
    assert any(node.op_type == "Sub" for node in load_graph(tmp_path / "merged.onnx").graph)
    verified(tmp_path)


OPEN_FOR = [("--precision", "int8"), ("--precision", "int4"), ("--target", "cuda", "--precision", "fp16")]


@pytest.mark.parametrize("options", OPEN_FOR, ids=lambda one: one[-1])
@pytest.mark.parametrize("linkage", ["swappable", "bank"])
def test_precisions_of_open_graphs(call: Call, tmp_path: Path, linkage: str, options: tuple[str, ...]) -> None:
    result = call("--linkage", linkage, *options)
    assert (result["linkage"], result["precision"]) == (linkage, options[-1])
    verified(tmp_path)


@pytest.mark.parametrize("linkage", ["merged", "swappable", "bank"])
def test_the_backbone_is_not_overwritten(call: Call, tmp_path: Path, linkage: str) -> None:
    before = (tmp_path / "backbone.onnx").read_bytes()
    error = call("--linkage", linkage, "--precision", "int8", "-o", str(tmp_path / "backbone.onnx"), code=2)
    assert error["code"] == "E006"
    assert (tmp_path / "backbone.onnx").read_bytes() == before


@pytest.mark.parametrize("options", [(), ("--precision", "int8")], ids=["plain", "int8"])
@pytest.mark.parametrize("linkage", ["merged", "swappable", "bank"])
def test_what_the_runtime_needs_is_beside_the_model(
    call: Call, tmp_path: Path, linkage: str, options: tuple[str, ...]
) -> None:
    names = ("config.json", "generation_config.json", "tokenizer.json")
    for name in names:
        (tmp_path / name).write_text(json.dumps({"of": name}))
    call("--linkage", linkage, *options, "-o", str(tmp_path / "elsewhere/model.onnx"))
    for name in names:
        assert (tmp_path / "elsewhere" / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize(
    "options", [("--form", "plain"), ("--linkage", "bank"), ("--linkage", "swappable", "--form", "sublayer")]
)
def test_tune(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]) -> None:
    monkeypatch.setattr("compacter_core.cli.optimise.SECONDS", 0.0)
    result = call("--tune", "1x4", "2x3", *options)
    assert result["tuning"]["shapes"] == ["1x4", "2x3"]
    assert result["tuning"]["winner"] in [one["name"] for one in result["tuning"]["candidates"]]
    verified(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        ("--precision", "fp16"),
        ("--target", "cuda", "--precision", "int8"),
        ("--tune", "8"),
        ("--tune", "1x4", "--target", "webgpu", "--linkage", "swappable"),
        ("--target", "webgpu", "--linkage", "swappable"),
        ("--target", "tensorrt", "--precision", "fp16", "--linkage", "bank"),
        ("--target", "cuda", "--precision", "bf16", "--linkage", "swappable"),
        ("--precision", "fp16", "--linkage", "swappable"),
        ("--precision", "int8", "--linkage", "swappable", "--form", "plain"),
    ],
)
def test_what_is_refused(call: Call, tmp_path: Path, options: tuple[str, ...]) -> None:
    assert call(*options, code=2)["code"] == "E001"
    assert not (tmp_path / "merged.onnx").exists()


def test_a_directory_of_graphs_is_not_measured(call: Call, tmp_path: Path) -> None:
    arguments = ["graft", str(tmp_path), str(tmp_path / "a.st"), "-o", str(tmp_path / "out"), "--tune", "1x4"]
    assert main(arguments) == 2
    assert not (tmp_path / "out").exists()
