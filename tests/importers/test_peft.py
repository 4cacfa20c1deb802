"""PEFT's methods are refused with the way to use them; this project's hub profile loads."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.importers.peft import from_peft
from compacter_core.methods import create_config
from compacter_core.pytorch import attach, describe_backbone, from_pretrained, get_adapter, save_pretrained
from tests.importers.conftest import KnownBackbones
from tests.importers.fixtures.tiny import build, run

BERT: Final = ("BertForSequenceClassification", "bert")


def save_peft(directory: Path, **options: Any) -> Path:
    """A directory as PEFT saves it."""
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps(options))
    weights = {"base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight": torch.ones(2, 8)}
    save_file(weights, directory / "adapter_model.safetensors")
    return directory


def save_ours(directory: Path) -> Any:
    """A profile of this project; the model that it is of."""
    model = build(*BERT).float()
    attached = attach(model, create_config(describe_backbone(model), reduction_factor=2, phm_dim=2), generator=3)
    with torch.no_grad():
        for parameter in attached.trainable_parameters():
            parameter.add_(0.1)
    save_pretrained(model, directory)
    return model


def refused(directory: Path, code: ErrorCode, **options: Any) -> CompacterError:
    with pytest.raises(CompacterError) as caught:
        from_peft(directory, **options)
    assert caught.value.code is code, caught.value
    return caught.value


@pytest.mark.parametrize("method", ["LORA", "LOKR", "LOHA", "ADALORA", "IA3", "OFT", "lora", "SOMETHING_NEW"])
def test_methods_that_change_weights_are_to_be_merged(tmp_path: Path, method: str) -> None:
    error = refused(save_peft(tmp_path / "peft", peft_type=method, r=2), ErrorCode.E502)
    assert "merge_and_unload" in str(error.remedy)


@pytest.mark.parametrize("method", ["PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "ADAPTION_PROMPT"])
def test_methods_that_change_the_input_cannot_be(tmp_path: Path, method: str) -> None:
    error = refused(save_peft(tmp_path / "peft", peft_type=method), ErrorCode.E502)
    assert "merge_and_unload" not in str(error.remedy)


def test_our_profile_loads(tmp_path: Path, known: KnownBackbones) -> None:
    model = save_ours(tmp_path / "ours")
    imported = from_peft(tmp_path / "ours", backbone=known(*BERT))
    assert adapter_bytes(imported.adapter) == adapter_bytes(get_adapter(model).to_adapter())
    again = build(*BERT).float()
    from_pretrained(again, tmp_path / "ours")
    assert torch.equal(run(again), run(model))


def test_our_profile_loads_without_its_head(tmp_path: Path) -> None:
    save_ours(tmp_path / "ours")
    whole, bare = (from_peft(tmp_path / "ours", with_head=with_head).adapter for with_head in (True, False))
    assert whole.config.head is not None
    assert bare.config.head is None
    kept = {name for name in whole.tensors if not name.startswith("head.")}
    assert set(bare.tensors) == kept < set(whole.tensors)
    assert all(np.array_equal(bare.tensors[name], whole.tensors[name]) for name in kept)
    assert {"sketch.pooler.weight", "sketch.pooler.bias"} == set(whole.sketches) - set(bare.sketches)
    adapter_bytes(bare)  # nothing in it contradicts the configuration


def test_another_backbone_is_refused(tmp_path: Path, known: KnownBackbones) -> None:
    save_ours(tmp_path / "ours")
    refused(tmp_path / "ours", ErrorCode.E401, backbone=known("T5ForConditionalGeneration", "t5"))


@pytest.mark.parametrize("options", [{"name": "x", "config": {}}, {}], ids=["AdapterHub", "empty"])
def test_other_directories_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    refused(save_peft(tmp_path / "other", **options), ErrorCode.E501)


def test_missing_configurations_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, ErrorCode.E501)
    refused(tmp_path / "nowhere", ErrorCode.E501)


def test_types_of_peft_are_names(tmp_path: Path) -> None:
    refused(save_peft(tmp_path / "peft", peft_type=3), ErrorCode.E501)


def test_damaged_profiles_are_refused_by_the_reader(tmp_path: Path) -> None:
    save_ours(tmp_path / "ours")
    path = tmp_path / "ours" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    refused(tmp_path / "ours", ErrorCode.E101)
