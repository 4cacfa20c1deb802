"""What an export refuses, and that it then leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir
import pytest

from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters import backbone
from compacter_exporters.backbone import export_backbone
from compacter_exporters.choices import Backend, Task
from compacter_exporters.graph_check import check_graph
from compacter_exporters.source_model import load_source
from tests.exporters_backbone.backends import ABSENT, BACKENDS
from tests.exporters_backbone.checkpoints import write_checkpoint
from tests.exporters_backbone.conftest import Exported
from tests.support.blocking import run_blocked

Damage = Callable[[onnx_ir.Model], None]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), "bert")


def _swap_two_gains(model: onnx_ir.Model) -> None:
    norms = [node for node in model.graph if node.op_type == "LayerNormalization"]
    first, last = norms[0].inputs[1], norms[-1].inputs[1]
    norms[0].replace_input_with(1, last)
    norms[-1].replace_input_with(1, first)


def _make_nan(model: onnx_ir.Model) -> None:
    (bias,) = [v for v in model.graph.initializers.values() if v.name and v.name.endswith("classifier.bias")]
    bias.const_value = onnx_ir.tensor([float("nan")] * 3, dtype=onnx_ir.DataType.FLOAT, name=bias.name)


def _freeze_batch(model: onnx_ir.Model) -> None:
    for value in model.graph.inputs:
        value.shape = onnx_ir.Shape([2, 8])


@pytest.mark.parametrize("damage", [_swap_two_gains, _make_nan, _freeze_batch])
def test_a_graph_that_differs_from_its_model_is_e606(exported_bert: Exported, tmp_path: Path, damage: Damage) -> None:
    loaded = load_source(exported_bert.checkpoint, Task.TEXT_CLASSIFICATION)
    check_graph(exported_bert.model, loaded)
    graph = onnx_ir.load(exported_bert.model)
    onnx_ir.external_data.load_to_model(graph)
    damage(graph)
    onnx_ir.save(graph, tmp_path / "damaged.onnx")
    with pytest.raises(CompacterError) as caught:
        check_graph(tmp_path / "damaged.onnx", loaded)
    assert caught.value.code is ErrorCode.E606


def test_a_file_that_is_no_graph_is_e606(checkpoint: Path, tmp_path: Path) -> None:
    loaded = load_source(checkpoint, Task.TEXT_CLASSIFICATION)
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(CompacterError) as caught:
        check_graph(tmp_path / "model.onnx", loaded)
    assert caught.value.code is ErrorCode.E606


def _failing(*args: Any, **kwargs: Any) -> None:
    raise ValueError("no\nway")


def test_an_exporter_that_fails_is_e605_and_leaves_nothing_behind(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "_load_backend", lambda backend: _failing)
    with pytest.raises(CompacterError, match="ValueError: no") as caught:
        export_backbone(checkpoint, tmp_path / "out")
    assert caught.value.code is ErrorCode.E605
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_graph_is_e606_and_leaves_nothing_behind(
    exported_bert: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*args: Any, **kwargs: Any) -> dict[str, onnx_ir.Model]:
        graph = onnx_ir.load(exported_bert.model)
        onnx_ir.external_data.load_to_model(graph)
        _swap_two_gains(graph)
        return {"model.onnx": graph}

    monkeypatch.setattr(backbone, "_load_backend", lambda backend: wrong)
    with pytest.raises(CompacterError, match="disagree on logits") as caught:
        export_backbone(exported_bert.checkpoint, tmp_path / "out")
    assert caught.value.code is ErrorCode.E606
    assert list(tmp_path.iterdir()) == []


def test_an_occupied_output_is_e006_before_anything_is_loaded(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(CompacterError) as caught:
        export_backbone(checkpoint, tmp_path, backend=BACKENDS[0], progress=pytest.fail)
    assert caught.value.code is ErrorCode.E006
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def _absent(directory: Path) -> None:
    directory.rmdir()


def _empty(directory: Path) -> None:
    assert not list(directory.iterdir())


def _unknown_type(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "no-such-model"}')


def _truncated(directory: Path) -> None:
    write_checkpoint(directory, "bert")
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


@pytest.mark.parametrize("make", [_absent, _empty, _unknown_type, _truncated])
def test_a_source_that_cannot_be_loaded_is_e005(tmp_path: Path, make: Callable[[Path], None]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make(source)
    with pytest.raises(CompacterError) as caught:
        export_backbone(source, tmp_path / "out", backend=BACKENDS[0])
    assert caught.value.code is ErrorCode.E005
    assert not (tmp_path / "out").exists()


def test_a_broken_tokenizer_is_e702(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", "bert")
    (source / "tokenizer.json").write_text("{")
    with pytest.raises(CompacterError) as caught:
        export_backbone(source, tmp_path / "out", backend=BACKENDS[0])
    assert caught.value.code is ErrorCode.E702
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("backend", ABSENT)
def test_an_exporter_that_is_not_installed_is_e004(checkpoint: Path, tmp_path: Path, backend: Backend) -> None:
    with pytest.raises(CompacterError, match="pip install") as caught:
        export_backbone(checkpoint, tmp_path / "out", backend=backend)
    assert caught.value.code is ErrorCode.E004


def test_naming_the_choices_needs_no_package() -> None:
    done = run_blocked("import compacter_exporters.choices", ("torch", "transformers", "onnx", "onnx_ir", "numpy"))
    assert done.returncode == 0, done.stderr
