"""Heads: those of transformers' classes, and AdapterHub's flexible ones where such a class computes the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import CompacterConfig, SeqBnConfig
from torch import nn

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.adapterhub import from_adapterhub, save_adapterhub
from compacter_core.importers.adapterhub.heads import FLEXIBLE, LANGUAGE_MODELS
from compacter_core.importers.result import ImportedAdapter
from tests.interop_adapterhub.cases import ADAPTER_MODELS
from tests.interop_adapterhub.sources import LABELS, difference
from tests.interop_adapterhub.world import RELATIVE_F64, World, outputs_with

LIBRARY = {model_type: model_class for model_class, model_type in ADAPTER_MODELS.items()}
ROWS = [(model_type, kind, row) for (model_type, kind), rows in FLEXIBLE.items() for row in rows]


def labels_of(kind: str) -> dict[int, str]:
    return {index: f"class {index}" for index in range(2 if kind == "question_answering" else LABELS)}


def flexible(kind: str, **options: Any) -> dict[str, Any]:
    return {"head_type": kind, "num_labels": len(labels_of(kind)), "id2label": labels_of(kind), **options}


@pytest.mark.parametrize(("model_type", "kind", "row"), ROWS, ids=[f"{t}-{k}-{len(r.linears)}" for t, k, r in ROWS])
def test_flexible_heads(model_type: str, kind: str, row: Any, world: World, tmp_path: Path) -> None:
    library = LIBRARY[model_type]
    theirs = world.source(library)
    options: dict[str, Any] = {"layers": len(row.linears), "activation_function": row.activation}
    if kind in ("classification", "image_classification"):
        options["use_pooler"] = row.uses_pooler
    if kind == "classification":
        options["bias"] = row.has_bias
    directory = theirs.save(tmp_path, SeqBnConfig(reduction_factor=4), head=flexible(kind, **options))
    result = from_adapterhub(directory, backbone=world.known(library))
    head = result.adapter.config.head
    assert head is not None
    assert head.labels == (() if kind == "question_answering" else tuple(labels_of(kind).values()))
    ours = world.plain(row.model_class, library)
    want, got = theirs.outputs(), outputs_with(ours, result, theirs.inputs)
    shared = set(want) & set(got)
    assert {"logits"} <= shared or {"start_logits", "end_logits"} <= shared
    assert difference({name: want[name] for name in shared}, {name: got[name] for name in shared}) <= RELATIVE_F64


@pytest.mark.parametrize(("model_type", "kind"), LANGUAGE_MODELS)
def test_flexible_language_models(model_type: str, kind: str, world: World, tmp_path: Path) -> None:
    theirs, model_class = world.source(LIBRARY[model_type]), LANGUAGE_MODELS[model_type, kind]
    config = CompacterConfig(phm_dim=2, reduction_factor=4)
    directory = theirs.save(tmp_path, config, head={"head_type": kind, "layers": 1})
    own = world.plain(model_class).get_output_embeddings().weight.detach()
    head = theirs.model.heads["a"].get_output_embeddings()
    head.weight = nn.Parameter(1.25 * own)
    theirs.model.save_adapter(str(directory), "a", use_safetensors=True)
    with pytest.raises(CompacterError) as refused:
        from_adapterhub(directory, backbone=world.known(model_class))
    assert refused.value.code is ErrorCode.E502
    head.weight = nn.Parameter(own.clone())
    theirs.model.save_adapter(str(directory), "a", use_safetensors=True)
    result = from_adapterhub(directory, backbone=world.known(model_class))
    assert result.adapter.config.head is None
    assert "the backbone's own" in result.notes[-1]


def imported(theirs: Any, known: Any, tmp_path: Path) -> ImportedAdapter:
    return from_adapterhub(theirs.save(tmp_path, SeqBnConfig(reduction_factor=4)), backbone=known)


STATIC = [
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "XLMRobertaForSequenceClassification",
    "DistilBertForSequenceClassification",
    "BartForSequenceClassification",
    "LlamaForSequenceClassification",
    "ViTForImageClassification",
]


@pytest.mark.parametrize("model_class", STATIC)
def test_a_static_head_goes_back(model_class: str, world: World, tmp_path: Path) -> None:
    theirs = world.source(model_class)
    result = imported(theirs, world.known(model_class), tmp_path)
    assert result.adapter.config.head is not None
    notes = save_adapterhub(result.adapter, tmp_path / "back")
    assert f"its head is that of {model_class}" in notes
    assert difference(theirs.outputs(), theirs.loaded(tmp_path / "back")) == 0.0


def test_a_head_can_be_left_out(world: World, tmp_path: Path) -> None:
    theirs = world.source("BertForSequenceClassification")
    directory = theirs.save(tmp_path, SeqBnConfig(reduction_factor=4))
    alone = from_adapterhub(directory, with_head=False)
    assert alone.adapter.config.head is None
    with pytest.raises(CompacterError) as refused:
        from_adapterhub(directory)
    assert refused.value.code is ErrorCode.E001


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("bert", flexible("classification", layers=3, activation_function="tanh")),
    ("bert", flexible("classification", layers=2, activation_function="relu")),
    ("bert", flexible("classification", layers=1)),
    ("bert", flexible("multilabel_classification", layers=2)),
    ("roberta", flexible("classification", layers=1)),
    ("gpt2", flexible("classification", layers=1)),
    ("gpt2", {"head_type": "causal_lm", "layers": 2, "activation_function": "gelu"}),
    ("vit", flexible("image_classification", layers=2)),
]


@pytest.mark.parametrize(("model_type", "head"), REFUSED)
def test_heads_that_no_class_has(model_type: str, head: dict[str, Any], world: World, tmp_path: Path) -> None:
    theirs = world.source(LIBRARY[model_type])
    directory = theirs.save(tmp_path, SeqBnConfig(reduction_factor=4), head=head)
    with pytest.raises(CompacterError) as refused:
        from_adapterhub(directory, backbone=world.known(LIBRARY[model_type]))
    assert refused.value.code is ErrorCode.E502


def test_a_head_that_is_saved_with_the_whole_model(world: World, tmp_path: Path) -> None:
    """What AdapterHub does with T5ForSequenceClassification, which it can save as a pickle alone."""
    model_class = "T5ForSequenceClassification"
    theirs = world.source(model_class)
    directory = theirs.save(tmp_path, CompacterConfig(phm_dim=2, reduction_factor=4), use_safetensors=False)
    head = torch.load(directory / "pytorch_model_head.bin")
    assert len(head) > 50
    result = from_adapterhub(directory, backbone=world.known(model_class), allow_pickle=True)
    assert result.adapter.config.head is not None
    assert len(result.adapter.config.head.shapes) == 4
    want, ours = theirs.outputs(), world.plain(model_class)
    assert difference(want, outputs_with(ours, result, theirs.inputs)) <= RELATIVE_F64
    head["transformer.shared.weight"] += 1.0
    torch.save(head, directory / "pytorch_model_head.bin")
    with pytest.raises(CompacterError) as refused:
        from_adapterhub(directory, backbone=world.known(model_class), allow_pickle=True)
    assert refused.value.code is ErrorCode.E303
