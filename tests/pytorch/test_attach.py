"""Attaching changes what it says and nothing else; detaching leaves no trace."""

import copy
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from compacter_core.config import ATTACH_PRESETS, Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.layout import adapter_layout
from compacter_core.methods import Method
from compacter_core.pytorch import ATTRIBUTE, attach, detach, get_adapter
from compacter_core.reference.initialise import initialise
from compacter_core.vocabulary import OverrideKind
from tests.pytorch.helpers import attach_trained, backward, logits, tiny_adapter_config
from tests.support.models import MODEL_TYPES, TASKS, TINY_METHODS, tiny_config, tiny_inputs, tiny_model


def hook_count(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("preset", ATTACH_PRESETS)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_detach_restores_everything(model_type: str, task: str, preset: str) -> None:
    model, inputs = tiny_model(model_type, task), tiny_inputs()
    model.base_model.embeddings.requires_grad_(False)
    before = logits(model, inputs)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    labels = (dict(model.config.id2label), dict(model.config.label2id))
    hooks, kind = hook_count(model), type(model)

    attach_trained(model, tiny_adapter_config(model, attach=ATTACH_PRESETS[preset]))
    assert type(model) is kind
    assert set(model.state_dict()) - set(state) == {f"{ATTRIBUTE}.{name}" for name in model.compacter.state_dict()}
    assert not torch.equal(logits(model, inputs), before)
    model.config.id2label = {0: "changed"}

    detach(model)
    assert torch.equal(logits(model, inputs), before)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == flags
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert (dict(model.config.id2label), dict(model.config.label2id)) == labels
    assert hook_count(model) == hooks
    assert not hasattr(model, ATTRIBUTE)
    attach(model, tiny_adapter_config(model))


@pytest.mark.parametrize("method", TINY_METHODS)
def test_parameters_have_the_names_of_the_file(method: Method) -> None:
    model = tiny_model("bert")
    attached = attach(model, tiny_adapter_config(model, method))
    shapes = {name: tuple(value.shape) for name, value in attached.state_dict().items()}
    assert shapes == adapter_layout(attached.config)
    assert sum(p.numel() for p in attached.parameters()) == sum(v.numel() for v in attached.state_dict().values())


def test_only_adapter_norms_and_head_train() -> None:
    model, inputs = tiny_model("roberta"), tiny_inputs()
    attached = attach_trained(model)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    own = {f"{ATTRIBUTE}.default.{name}" for name in attached.state_dict()}
    norms = {name for name, _ in model.named_parameters() if "LayerNorm" in name}
    head = {f"classifier.{layer}.{leaf}" for layer in ("dense", "out_proj") for leaf in ("weight", "bias")}
    assert trainable == own | norms | head
    assert len(list(attached.trainable_parameters())) == len(trainable)
    backward(model(**inputs, labels=torch.tensor([0, 1, 2])).loss)
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == trainable
    assert {override.kind for override in attached.config.overrides} == {OverrideKind.NORM}


def test_without_norms_and_head() -> None:
    model = tiny_model("bert")
    attached = attach(model, tiny_adapter_config(model), train_norms=False, train_head=False)
    assert attached.config.overrides == ()
    assert attached.config.head is None
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        f"{ATTRIBUTE}.default.{name}" for name in attached.state_dict()
    }


@pytest.mark.parametrize("generator", [11, torch.Generator().manual_seed(5)], ids=["seed", "generator"])
def test_initial_values_come_from_the_generator(generator: int | torch.Generator) -> None:
    state = generator.get_state() if isinstance(generator, torch.Generator) else None
    states = []
    for _ in range(2):
        if isinstance(generator, torch.Generator) and state is not None:
            generator.set_state(state)
        model = tiny_model("bert")
        with torch.random.fork_rng(devices=[]):
            before = torch.get_rng_state()
            states.append(attach(model, tiny_adapter_config(model), generator=generator).state_dict())
            assert torch.equal(torch.get_rng_state(), before), "the global generator is not touched"
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.spec("INI-1")
def test_initial_values_are_the_reference_s() -> None:
    model = tiny_model("bert")
    attached = attach(model, tiny_adapter_config(model), generator=11)
    for name, value in initialise(attached.config, np.random.default_rng(11)).items():
        np.testing.assert_array_equal(attached.state_dict()[name].numpy(), value.astype(np.float32))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
def test_copies_have_their_own_adapter(preset: str, duplicate: Any) -> None:
    model, inputs = tiny_model("distilbert"), tiny_inputs()
    bare = logits(model, inputs)
    attach_trained(model, tiny_adapter_config(model, attach=ATTACH_PRESETS[preset]))
    expected = logits(model, inputs)
    twin = duplicate(model)
    assert torch.equal(logits(twin, inputs), expected)
    with torch.no_grad():
        for parameter in get_adapter(model).parameters():
            parameter.zero_()
    assert torch.equal(logits(twin, inputs), expected)
    detach(twin)
    assert torch.equal(logits(twin, inputs), bare)
    assert get_adapter(model).backbone.model is model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_backbone_of_another_data_type(dtype: torch.dtype) -> None:
    """The adapter is float32 in a half-precision backbone, float64 in a float64 one; the stream keeps its type."""
    model, inputs = tiny_model("bert").to(dtype), tiny_inputs()
    attached = attach_trained(model)
    wanted = torch.float64 if dtype is torch.float64 else torch.float32
    assert {parameter.dtype for parameter in attached.parameters()} == {wanted}
    output = logits(model, inputs)
    assert output.dtype is dtype
    backward(output.sum())
    assert all(parameter.grad is not None for parameter in attached.trainable_parameters())
    model.to(torch.float32)
    assert logits(model, inputs).dtype is torch.float32


@pytest.mark.parametrize("preset", ATTACH_PRESETS)
def test_autocast(preset: str) -> None:
    model, inputs = tiny_model("bert"), tiny_inputs()
    attached = attach_trained(model, tiny_adapter_config(model, attach=ATTACH_PRESETS[preset]))
    with torch.autocast("cpu", torch.bfloat16):
        output = logits(model, inputs)
        backward(output.float().sum())
    assert output.dtype is torch.bfloat16
    assert all(parameter.grad is not None for parameter in attached.tensor_parameters().values())


def test_errors() -> None:
    model = tiny_model("bert")
    config = tiny_adapter_config(model)
    assert config.backbone is not None
    with pytest.raises(CompacterError) as error:
        get_adapter(model)
    assert error.value.code is ErrorCode.E804
    cases = {
        ErrorCode.E401: replace(config, backbone=replace(config.backbone, model_type="roberta")),
        ErrorCode.E211: replace(config, sites=(Site(id="encoder.0.cross_attn", bottleneck_size=4),)),
    }
    state = set(model.state_dict())
    for code, wrong in cases.items():
        with pytest.raises(CompacterError) as error:
            attach(model, wrong)
        assert error.value.code is code
        assert set(model.state_dict()) == state
        assert hook_count(model) == 0
        assert all(parameter.requires_grad for parameter in model.parameters())
    attach(model, config)
    with pytest.raises(CompacterError) as error:
        attach(model, config)
    assert error.value.code is ErrorCode.E804
    detach(model)
    with pytest.raises(CompacterError) as error:
        detach(model)
    assert error.value.code is ErrorCode.E804


def test_unknown_head() -> None:
    model = AutoModelForMaskedLM.from_config(tiny_config("bert"))
    with pytest.raises(CompacterError) as error:
        attach(model, tiny_adapter_config(model))
    assert error.value.code is ErrorCode.E803
    attach(model, tiny_adapter_config(model), train_head=False)
