"""Two ways to one model: the adapter grafted into the backbone's graph, and the model exported with it inside."""

import json
from collections.abc import Callable
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

from compacter_core.adapter import Adapter
from compacter_core.cli.main import main
from compacter_core.config import ATTACH_PRESETS
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes, digest, save_adapter
from compacter_core.pytorch import detach
from compacter_exporters.agreement import agreement
from compacter_exporters.backbone import export_backbone
from compacter_exporters.checks import Numbers
from compacter_exporters.choices import Backend, Task
from compacter_exporters.graft import graft
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.graph import load_graph
from compacter_exporters.probe import random_inputs, run_model
from compacter_runtime import Session
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.generators import Generator, trained
from tests.support.backbones import BACKBONES, VOCABULARY, randomise

BACKEND = BACKENDS[0]
# torch.export is slow, so that a few stand for the others there.
CLASSIFIERS = {
    Backend.TRANSFORMERS: ("bert", "bert", "llama"),
    Backend.OPTIMUM: (
        *("bert", "bert", "bert", "bert", "roberta", "distilbert", "electra", "deberta-v2", "xlm-roberta", "vit"),
        *("llama", "mistral", "qwen2", "gemma", "albert"),
    ),
}
GENERATORS = {Backend.TRANSFORMERS: ("t5",), Backend.OPTIMUM: ("gpt2", "t5", "bart", "mt5")}
_DEPTHS = ("num_hidden_layers", "n_layers")


def in_turn(model_types: tuple[str, ...]) -> list[tuple[str, str]]:
    """Every model with one of the placements, BERT with all."""
    return list(zip(model_types, cycle(ATTACH_PRESETS), strict=False))


Make = Callable[[str], tuple[Path, Any]]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A checkpoint with three classes, of one layer where that can be, and the model."""

    def make(model_type: str) -> tuple[Path, Any]:
        options: dict[str, Any] = dict(BACKBONES[model_type])
        if model_type != "albert":  # which has few layers, and calls them often
            options |= {name: 1 for name in _DEPTHS if name in options}
        config = AutoConfig.for_model(
            model_type, **{"vocab_size": VOCABULARY, "num_labels": 3, "pad_token_id": 0, **options}
        )
        auto: Any = AutoModelForImageClassification if model_type == "vit" else AutoModelForSequenceClassification
        with torch.random.fork_rng(devices=[]):
            model = auto.from_config(config)
        randomise(model, seed=3)
        folder = tmp_path_factory.mktemp(model_type)
        model.save_pretrained(folder)
        return folder, model.eval()

    return make


@pytest.fixture(scope="module")
def backbone(classifier: Make, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The graph of that checkpoint, without an adapter."""

    @cache
    def once(model_type: str) -> Path:
        folder = tmp_path_factory.mktemp("backbone") / "onnx"
        return export_backbone(classifier(model_type)[0], folder, task=task_of(model_type), backend=BACKEND)

    return once


def task_of(model_type: str) -> Task:
    """The task of its classifier."""
    return Task.IMAGE_CLASSIFICATION if model_type == "vit" else Task.TEXT_CLASSIFICATION


def assert_agree(grafted: Path, exported: Path) -> None:
    """Every output of both graphs for the same inputs, the cache included, and of every branch."""
    graph = load_graph(grafted).graph
    names = [str(value.name) for value in graph.outputs]
    assert [value.name for value in load_graph(exported).graph.outputs] == names
    drawn = random_inputs(graph, np.random.default_rng(2), batch=2, length=6)
    switches = [name for name, value in drawn.items() if value.dtype == bool]
    for inputs in (drawn, drawn | {name: ~drawn[name] for name in switches})[: 1 + len(switches)]:
        first, second = (run_model(path, inputs, names, None) for path in (grafted, exported))
        check = agreement(first, second, Numbers.of(ir.DataType.FLOAT))
        assert check.ok, check


@pytest.mark.spec("ONX-4", "ONX-26")
@pytest.mark.parametrize(("model_type", "preset"), in_turn(CLASSIFIERS[BACKEND]))
def test_both_paths_agree(
    classifier: Make, backbone: Callable[[str], Path], model_type: str, preset: str, tmp_path: Path
) -> None:
    checkpoint, model = classifier(model_type)
    adapter = trained(model, ATTACH_PRESETS[preset])
    graft(backbone(model_type), adapter, tmp_path / "merged.onnx")
    exported = export_backbone(
        checkpoint, tmp_path / "exported", task=task_of(model_type), backend=BACKEND, adapter=adapter
    )
    assert_agree(tmp_path / "merged.onnx", exported)


@pytest.mark.spec("ONX-4", "ONX-26")
@pytest.mark.parametrize(("model_type", "preset"), in_turn(GENERATORS[BACKEND]))
def test_both_paths_agree_on_models_that_generate(
    make_generator: Callable[[Backend, str], Generator], model_type: str, preset: str, tmp_path: Path
) -> None:
    generator = make_generator(BACKEND, model_type)
    adapter = trained(generator.model, ATTACH_PRESETS[preset])
    detach(generator.model)
    task = Task.TEXT2TEXT_GENERATION if generator.is_encoder_decoder else Task.TEXT_GENERATION
    if generator.is_encoder_decoder:
        graft_directory(generator.graphs, adapter, tmp_path / "merged")
    else:
        graft(generator.graphs / "model.onnx", adapter, tmp_path / "merged/model.onnx")
    export_backbone(
        generator.graphs.parent / "checkpoint", tmp_path / "exported", task=task, backend=BACKEND, adapter=adapter
    )
    graphs = sorted(path.name for path in (tmp_path / "merged").glob("*.onnx"))
    assert graphs == sorted(path.name for path in (tmp_path / "exported").glob("*.onnx"))
    for name in graphs:
        assert_agree(tmp_path / "merged" / name, tmp_path / "exported" / name)


@pytest.fixture(scope="module")
def saved(classifier: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Adapter]:
    """A checkpoint whose head has two classes, and an adapter of the same backbone with three, named."""
    checkpoint, model = classifier("distilbert")
    model.config.id2label = {0: "no", 1: "maybe", 2: "yes"}
    adapter = trained(model)
    detach(model)
    folder = tmp_path_factory.mktemp("saved")
    other = type(model).from_pretrained(checkpoint, num_labels=2, ignore_mismatched_sizes=True)
    other.save_pretrained(folder / "checkpoint")
    save_adapter(adapter, folder / "adapter.safetensors")
    return folder / "checkpoint", folder / "adapter.safetensors", adapter


@pytest.mark.spec("ONX-26")
def test_the_command_exports_a_model_that_says_what_it_is(
    saved: tuple[Path, Path, Adapter], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, file, adapter = saved
    out = tmp_path / "exported"
    command = ["export", str(checkpoint), "--adapter", str(file), "-o", str(out), "--backend", BACKEND.value, "--json"]
    assert main(command) == 0
    assert {"model.onnx", "model.onnx.data", "config.json"} <= set(json.loads(capsys.readouterr().out)["files"])
    assert json.loads((out / "config.json").read_text())["id2label"] == {"0": "no", "1": "maybe", "2": "yes"}
    tokens = np.arange(5, 12)[np.newaxis]
    logits = Session(out / "model.onnx").run({"input_ids": tokens, "attention_mask": np.ones_like(tokens)})["logits"]
    assert logits.shape == (1, 3)
    metadata = load_graph(out / "model.onnx").metadata_props
    assert {key for key in metadata if key.startswith("compacter.")} == {
        "compacter.spec_version",
        "compacter.config",
        "compacter.exported",
    }
    assert metadata["compacter.exported"] == digest(adapter_bytes(adapter)) == digest(file.read_bytes())
    for refused, code in (
        (["extract", str(out / "model.onnx"), "-o", str(tmp_path / "out.safetensors")], "E601"),
        (["inspect", str(out / "model.onnx")], "E601"),
        (["verify", str(out), "--adapter", str(file)], "E601"),
        (["graft", str(out), str(file), "-o", str(tmp_path / "twice")], "E605"),
    ):
        assert main([*refused, "--json"]) == 2
        assert json.loads(capsys.readouterr().err)["error"]["code"] == code


def test_an_adapter_of_another_backbone_is_refused(
    saved: tuple[Path, Path, Adapter], classifier: Make, tmp_path: Path
) -> None:
    checkpoint, model = classifier("distilbert")
    randomise(model, seed=4)
    model.save_pretrained(checkpoint)
    with pytest.raises(CompacterError) as caught:
        export_backbone(checkpoint, tmp_path / "exported", backend=BACKEND, adapter=saved[1])
    assert caught.value.code is ErrorCode.E403
    assert not (tmp_path / "exported").exists()
