"""Bindings name modules that exist, in the order in which the model runs them."""

import pytest
import torch
from torch import nn

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch import describe_backbone
from compacter_core.pytorch.binding_files import load_binding
from compacter_core.pytorch.bindings import bind
from compacter_core.vocabulary import NormStyle, Stack
from tests.support.models import HIDDEN, LAYERS, MODEL_TYPES, TASKS, tiny_config, tiny_inputs, tiny_model


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_description(model_type: str, task: str) -> None:
    """The same for base and task models; names are those of the state_dict without the base model's prefix."""
    model = tiny_model(model_type, task)
    backbone = describe_backbone(model)
    assert backbone == describe_backbone(model.base_model)
    assert (backbone.model_type, backbone.hidden_size) == (model_type, HIDDEN)
    assert backbone.num_layers == {Stack.ENCODER: LAYERS}
    assert backbone.norm_style is NormStyle.POST
    names = set(model.base_model.state_dict())
    for site_id, modules in backbone.modules.items():
        assert f"{modules.linear}.weight" in names, site_id
        assert modules.norm in backbone.norms
    assert [f"encoder.{i}.{s}" for i in range(LAYERS) for s in ("self_attn", "ffn")] == list(backbone.modules)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_site_modules_carry_r_h_and_their_sum(model_type: str) -> None:
    """What a binding claims of its modules, seen while the model runs."""
    model = tiny_model(model_type)
    bound = bind(model)
    seen: dict[str, torch.Tensor] = {}
    for site_id in bound.description.modules:
        site = bound.site(site_id)
        site.linear.register_forward_hook(lambda _, args, output: seen.update(f=output))
        site.output.register_forward_hook(lambda _, args, output: seen.update(h=output))
        site.residual.register_forward_pre_hook(lambda _, args: seen.update(r=args[0]))

        def check(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            assert torch.equal(seen["h"] + seen["r"], args[0])
            assert torch.equal(seen["h"], seen["f"]), "no dropout in evaluation mode"
            seen.clear()

        assert site.norm is not None, "these are post-norm models"
        site.norm.register_forward_hook(check)
    with torch.no_grad():
        model(**tiny_inputs())
    assert not seen


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_heads_hold_all_tensors_outside_the_base_model(model_type: str, task: str) -> None:
    model = tiny_model(model_type, task)
    head = bind(model).task_head.describe()
    outside = {name for name in model.state_dict() if not name.startswith(f"{model.base_model_prefix}.")}
    if task == "base":
        assert head is None
        return
    assert head is not None
    assert head.task == task
    assert set(head.shapes) == outside
    assert len(head.labels) == (3 if task.endswith("classification") else 0)


def test_regression_has_no_labels() -> None:
    head = bind(tiny_model("bert", num_labels=1)).task_head.describe()
    assert head is not None
    assert head.labels == ()


@pytest.mark.spec("SEC-11")
@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("owner/name", "owner/name"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("/home/someone/models/mine", "mine"),
        ("./mine/", "mine"),
        ("~/secret/mine", "mine"),
        ("C:\\Users\\someone\\mine", "mine"),
        ("folder/sub/mine", "mine"),
        ("", None),
    ],
)
def test_paths_are_not_stored(given: str, stored: str | None) -> None:
    model = tiny_model("bert")
    model.config._name_or_path = given
    assert describe_backbone(model).id == stored


def test_errors() -> None:
    for wrong in ("switch_transformers", "../bindings/bert", ""):
        with pytest.raises(CompacterError) as error:
            load_binding(wrong)
        assert error.value.code is ErrorCode.E803
    with pytest.raises(CompacterError) as error:
        describe_backbone(nn.Linear(2, 2))
    assert error.value.code is ErrorCode.E803
    decoder = tiny_model("bert")
    decoder.config.is_decoder = True
    with pytest.raises(CompacterError) as error:
        bind(decoder)
    assert error.value.code is ErrorCode.E803
    broken = tiny_model("bert", "base")
    del broken.encoder.layer[1].output
    with pytest.raises(CompacterError) as error:
        bind(broken).site("encoder.1.ffn")
    assert error.value.code is ErrorCode.E803
    assert tiny_config("bert").model_type == "bert"
