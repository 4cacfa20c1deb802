"""Exported backbones against their PyTorch models, for every backend that is installed and every bound architecture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from compacter_exporters.backbone import export_backbone
from compacter_exporters.choices import Backend, Task
from compacter_exporters.graph_check import RELATIVE_LIMIT
from compacter_exporters.source_model import load_source
from compacter_runtime import Session
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.checkpoints import POSITIONS, write_checkpoint, write_tokenizer
from tests.exporters_backbone.conftest import Exported
from tests.support.models import VOCABULARY

TEXTS = ["w5 w6 w7", "w8", "", " ".join(f"w{4 + i % 40}" for i in range(90))]


def _torch_model(checkpoint: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()


def test_the_environment_has_a_backend() -> None:
    assert BACKENDS


def test_files(exported: Exported) -> None:
    names = sorted(path.name for path in exported.model.parent.iterdir())
    assert names == ["config.json", "model.onnx", "model.onnx.data", "tokenizer.json"]
    assert json.loads((exported.model.parent / "config.json").read_text())["model_type"] == exported.model_type


def test_the_graph_has_named_dynamic_axes_and_one_output(exported: Exported) -> None:
    graph = onnx.load(exported.model, load_external_data=False).graph

    def axes(value: onnx.ValueInfoProto) -> list[str | int]:
        return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]

    wanted = {"input_ids", "attention_mask"} | ({"token_type_ids"} if exported.model_type == "bert" else set())
    # A RoBERTa checkpoint has one segment; the random one has two, and the backends differ about it.
    assert {value.name for value in graph.input} - {"token_type_ids"} == wanted - {"token_type_ids"}
    assert wanted <= {value.name for value in graph.input}
    assert [axes(value) for value in graph.input] == [["batch", "sequence"]] * len(graph.input)
    assert [(value.name, axes(value)) for value in graph.output] == [("logits", ["batch", 3])]


def test_the_graph_names_no_files_of_the_machine(exported: Exported) -> None:
    content = exported.model.read_bytes()
    assert b".py" not in content
    assert str(exported.checkpoint).encode() not in content


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, POSITIONS - 2), (5, 3), (2, 11)])
def test_outputs_equal_those_of_the_pytorch_model(exported: Exported, batch: int, length: int) -> None:
    session = Session(exported.model, intra_op_threads=1)
    generator = torch.Generator().manual_seed(batch * 100 + length)
    ids = torch.randint(5, VOCABULARY, (batch, length), generator=generator)
    mask = (torch.arange(length) < torch.arange(length, length - batch, -1).clamp(1)[:, None]).long()
    inputs = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in session.input_names:
        inputs["token_type_ids"] = torch.randint(2, (batch, length), generator=generator)
    with torch.no_grad():
        expected = _torch_model(exported.checkpoint)(**inputs).logits.numpy()
    got = session.run({name: tensor.numpy() for name, tensor in inputs.items()})["logits"]
    assert np.abs(got - expected).max() <= RELATIVE_LIMIT * np.abs(expected).max()


def test_the_tokenizer_truncates_at_what_the_positions_allow_and_nowhere_else(exported: Exported) -> None:
    # RoBERTa's positions start after padding_idx = pad_token_id = 0.
    limit = POSITIONS - 1 if exported.model_type == "roberta" else POSITIONS
    settings = json.loads((exported.model.parent / "tokenizer.json").read_text())
    assert settings["truncation"]["max_length"] == limit
    assert settings["padding"]["strategy"] == "BatchLongest"


def test_texts_need_the_tokenizers_library_alone_and_give_the_same_logits(exported: Exported) -> None:
    limit = POSITIONS - 1 if exported.model_type == "roberta" else POSITIONS
    model = _torch_model(exported.checkpoint)
    got = Session(exported.model, intra_op_threads=1).run(TEXTS, batch_size=3)["logits"]
    for row, text in zip(got, TEXTS, strict=True):
        words = [int(word[1:]) for word in text.split()]
        ids = [1, *words[: limit - 2], 2]
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids])).logits.numpy()[0]
        assert np.abs(row - expected).max() <= RELATIVE_LIMIT * np.abs(expected).max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_feature_extraction_without_a_tokenizer(tmp_path: Path, backend: Backend) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "distilbert", "base")
    model = export_backbone(checkpoint, tmp_path / "out", task=Task.FEATURE_EXTRACTION, backend=backend, opset=18)
    assert onnx.load(model, load_external_data=False).opset_import[0].version == 18
    inputs = {"input_ids": [[5, 6, 7]], "attention_mask": [[1, 1, 1]]}
    assert Session(model, intra_op_threads=1).run(inputs)["last_hidden_state"].shape == (1, 3, 16)
    # transformers would invent one from the configuration, which knows its special tokens alone.
    assert not (tmp_path / "out" / "tokenizer.json").exists()


def test_a_missing_head_is_the_same_every_time_and_no_generator_is_touched(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "bert", "base")
    heads = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        heads.append(load_source(checkpoint, Task.TEXT_CLASSIFICATION).model.classifier.weight)
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(*heads)


@pytest.mark.parametrize(
    ("model_type", "model_max_length", "expected"),
    [("bert", 10**30, POSITIONS), ("bert", 12, 12), ("roberta", 10**30, POSITIONS - 1), ("roberta", POSITIONS, 39)],
)
def test_the_longest_input_is_the_least_of_the_limits(
    tmp_path: Path, model_type: str, model_max_length: int, expected: int
) -> None:
    checkpoint = write_checkpoint(tmp_path, model_type)
    write_tokenizer(checkpoint, model_max_length=model_max_length)
    assert load_source(checkpoint, Task.TEXT_CLASSIFICATION).max_length == expected
