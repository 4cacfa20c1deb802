"""Saved and loaded adapters: exact round trips, fits that are refused, counts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compacter_core.adapter import Adapter, DType
from compacter_core.config import Override
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.format.sketch import correlation, weight_name
from compacter_core.format.writer import adapter_bytes, save_adapter
from compacter_core.layout import count_parameters as count_in_layout
from compacter_core.methods import Method
from compacter_core.pytorch import (
    ATTRIBUTE,
    attach_adapter,
    count_parameters,
    detach,
    from_pretrained,
    get_adapter,
    print_trainable_parameters,
    save_pretrained,
)
from compacter_core.vocabulary import NormStyle, OverrideKind, Stack
from tests.pytorch.helpers import attach_trained, logits, tiny_adapter_config
from tests.support.models import MODEL_TYPES, TASKS, TINY_METHODS, tiny_inputs, tiny_model


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_round_trip(model_type: str, task: str, tmp_path: Path) -> None:
    """The same outputs, the same bytes, and the original backbone after detaching."""
    inputs = tiny_inputs()
    trained = tiny_model(model_type, task)
    before = logits(trained, inputs)
    trained.config.id2label = {index: f"name {index}" for index in range(trained.config.num_labels)}
    attach_trained(trained)
    expected = logits(trained, inputs)
    save_pretrained(trained, tmp_path / "adapter")
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]

    fresh = tiny_model(model_type, task)
    attached = from_pretrained(fresh, tmp_path / "adapter")
    assert torch.equal(logits(fresh, inputs), expected)
    assert not any(parameter.requires_grad for parameter in fresh.parameters())
    assert adapter_bytes(attached.to_adapter()) == (tmp_path / "adapter/adapter_model.safetensors").read_bytes()
    if task.endswith("classification"):
        assert fresh.config.id2label == {index: f"name {index}" for index in range(3)}
        assert fresh.config.label2id["name 2"] == 2
    detach(fresh)
    assert torch.equal(logits(fresh, inputs), before)


@pytest.mark.parametrize("method", TINY_METHODS)
def test_round_trip_of_every_method(method: Method, tmp_path: Path) -> None:
    model, inputs = tiny_model("bert"), tiny_inputs()
    attach_trained(model, tiny_adapter_config(model, method))
    save_adapter(get_adapter(model).to_adapter(), tmp_path / "a.safetensors")
    fresh = tiny_model("bert")
    from_pretrained(fresh, tmp_path / "a.safetensors")
    assert torch.equal(logits(fresh, inputs), logits(model, inputs))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_data_types_survive(dtype: torch.dtype) -> None:
    """A half-precision backbone's norms are held exactly by the float32 file; pure half precision stays half."""
    model = tiny_model("bert").to(dtype)
    attached = attach_trained(model)
    adapter = attached.to_adapter()
    assert adapter.dtype is (DType.F64 if dtype is torch.float64 else DType.F32)
    for name, parameter in attached.replaced_parameters().items():
        assert torch.equal(torch.from_numpy(adapter.tensors[name]).to(dtype), parameter)
    model.to(dtype)
    pure = attached.to_adapter()
    assert pure.dtype is {torch.float64: DType.F64, torch.bfloat16: DType.BF16, torch.float16: DType.F16}[dtype]
    adapter_bytes(pure)


def test_base_model_and_task_model_share_adapters() -> None:
    """Names have no prefix of the task model, and the head can be left out."""
    task, inputs = tiny_model("roberta"), tiny_inputs()
    adapter = attach_trained(task).to_adapter()
    base = task.base_model
    expected = base(**inputs).last_hidden_state
    plain = tiny_model("roberta").base_model
    with pytest.raises(CompacterError) as error:
        attach_adapter(plain, adapter)
    assert error.value.code is ErrorCode.E404
    attached = attach_adapter(plain, adapter, with_head=False)
    assert torch.equal(plain(**inputs).last_hidden_state, expected)
    assert attached.to_adapter().config.head is None


def test_load_replaces_everything() -> None:
    """Also norms that the newcomer leaves alone: they are the backbone's again."""
    inputs = tiny_inputs()
    first, second = tiny_model("bert"), tiny_model("bert")
    config = tiny_adapter_config(first)
    attached = attach_trained(first, config, seed=1)
    other = attach_trained(second, config, seed=2, train_norms=False).to_adapter()
    attached.load(other)
    assert torch.equal(logits(first, inputs), logits(second, inputs))
    assert adapter_bytes(attached.to_adapter()) == adapter_bytes(other)
    assert all(parameter.requires_grad for parameter in attached.parameters())
    assert not first.bert.embeddings.LayerNorm.weight.requires_grad
    with pytest.raises(CompacterError) as error:
        attached.load(attach_trained(tiny_model("bert"), tiny_adapter_config(first, Method.PARALLEL)).to_adapter())
    assert error.value.code is ErrorCode.E001


def test_bias_overrides() -> None:
    """An adapter may replace biases of projections; detaching puts them back."""
    inputs, model = tiny_inputs(), tiny_model("bert")
    before = logits(model, inputs)
    adapter = attach_trained(tiny_model("bert"), train_norms=False).to_adapter()
    name = "encoder.layer.1.output.dense.bias"
    bias = np.full(16, 0.5, dtype=np.float32)
    adapter = _with_override(adapter, name, OverrideKind.BIAS, bias)
    attached = attach_adapter(model, adapter)
    np.testing.assert_array_equal(model.bert.get_parameter(name).detach().numpy(), bias)
    assert adapter_bytes(attached.to_adapter())
    detach(model)
    assert torch.equal(logits(model, inputs), before)


def _with_override(adapter: Adapter, name: str, kind: OverrideKind, value: Any) -> Adapter:
    overrides = (*adapter.config.overrides, Override(name=name, kind=kind))
    tensors = {**adapter.tensors, f"override.{name}": value}
    return replace(adapter, config=replace(adapter.config, overrides=overrides), tensors=tensors)


def _with_backbone(adapter: Adapter, **changes: Any) -> Adapter:
    assert adapter.config.backbone is not None
    backbone = replace(adapter.config.backbone, **changes)
    return replace(adapter, config=replace(adapter.config, backbone=backbone))


MISFITS: dict[str, tuple[ErrorCode, Callable[[Adapter], Adapter]]] = {
    "type": (ErrorCode.E401, lambda a: _with_backbone(a, model_type="roberta")),
    "layers": (
        ErrorCode.E401,
        lambda a: _with_backbone(a, num_layers={Stack.ENCODER: 3}),
    ),
    "norm style": (ErrorCode.E402, lambda a: _with_backbone(a, norm_style=NormStyle.PRE)),
    "name": (ErrorCode.E404, lambda a: _with_override(a, "encoder.norm.weight", OverrideKind.NORM, np.ones(16))),
    "shape": (
        ErrorCode.E404,
        lambda a: _with_override(a, "encoder.layer.0.output.dense.bias", OverrideKind.BIAS, np.ones(15)),
    ),
    "embedding": (
        ErrorCode.E405,
        lambda a: _with_override(
            a, "embeddings.word_embeddings.weight", OverrideKind.NORM, np.ones((50, 16), dtype=np.float32)
        ),
    ),
    "projection": (
        ErrorCode.E405,
        lambda a: _with_override(a, "encoder.layer.0.output.dense.weight", OverrideKind.BIAS, np.ones((16, 24))),
    ),
    "head": (ErrorCode.E404, lambda a: attach_trained(tiny_model("bert", num_labels=5)).to_adapter()),
    "stale backbone": (ErrorCode.E403, lambda a: attach_trained(tiny_model("bert", seed=1)).to_adapter()),
}


@pytest.mark.spec("SKT-7", "SKT-8", "SKT-9", "SKT-10", "SKT-11", "ERR-1")
@pytest.mark.parametrize("misfit", MISFITS)
def test_misfits_are_refused_and_change_nothing(misfit: str) -> None:
    code, change = MISFITS[misfit]
    model, inputs = tiny_model("bert"), tiny_inputs()
    adapter = change(attach_trained(tiny_model("bert")).to_adapter())
    before = logits(model, inputs)
    with pytest.raises(CompacterError) as error:
        attach_adapter(model, adapter)
    assert error.value.code is code
    assert torch.equal(logits(model, inputs), before)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not hasattr(model, ATTRIBUTE)

    attached = attach_trained(model)
    before, state = logits(model, inputs), attached.to_adapter()
    with pytest.raises(CompacterError) as error:
        attached.load(adapter)
    assert error.value.code is code
    assert torch.equal(logits(model, inputs), before)
    assert adapter_bytes(attached.to_adapter()) == adapter_bytes(state)


@pytest.mark.spec("SKT-5")
def test_half_precision_backbone_is_recognised() -> None:
    adapter = attach_trained(tiny_model("bert")).to_adapter()
    attach_adapter(tiny_model("bert").to(torch.bfloat16), adapter)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_sketches_are_of_the_named_modules(model_type: str) -> None:
    model = tiny_model(model_type)
    adapter = attach_trained(model).to_adapter()
    assert adapter.config.backbone is not None
    for site in adapter.config.sites:
        name = adapter.config.backbone.modules[site.id].linear
        weight = model.base_model.state_dict()[f"{name}.weight"].numpy()
        assert correlation(adapter.sketches[weight_name(site.id)], weight.T) == 1
    poolers = 0 if adapter.config.head is None or adapter.config.head.pooler is None else 1
    assert len(adapter.sketches) == 2 * (len(adapter.config.sites) + poolers)


def test_counts(capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model("distilbert")
    whole = sum(parameter.numel() for parameter in model.parameters())
    attached = attach_trained(model)
    counts = count_parameters(model)
    head = 16 * 16 + 16 + 3 * 16 + 3
    assert counts.adapter == count_in_layout(attached.config)
    assert counts.replaced == 5 * 2 * 16
    assert counts.head == head
    assert counts.backbone == whole - head
    assert counts.trained == sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert counts.share == (counts.adapter + counts.replaced) / counts.backbone
    print_trainable_parameters(model)
    printed = capsys.readouterr().out
    assert f"{counts.trained:,}" in printed
    assert f"{counts.share:.4%}" in printed
    attached.set_trainable(False)
    assert count_parameters(model).trained == 0


def test_saved_file_is_read_back_whole(tmp_path: Path) -> None:
    model = tiny_model("bert")
    adapter = attach_trained(model).to_adapter()
    save_pretrained(model, tmp_path)
    read = load_adapter(tmp_path)
    assert read.config == adapter.config
    for name, array in {**adapter.tensors, **adapter.sketches}.items():
        np.testing.assert_array_equal({**read.tensors, **read.sketches}[name], array)
