"""Architectures without a binding here, reached by module path patterns in a file of one's own."""

import copy
import json
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import pytest
import torch
from transformers import AutoConfig, AutoModel

from compacter_core.config import ATTACH_PRESETS
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch import (
    attach,
    check_binding,
    describe_backbone,
    detach,
    from_pretrained,
    known_model_types,
    read_binding,
    save_pretrained,
)
from compacter_core.pytorch.binding_files import Binding
from tests.pytorch.helpers import attach_trained, backward, tiny_adapter_config
from tests.support.backbones import BACKBONES, HIDDEN, VOCABULARY, backbone_inputs, run, tiny_backbone
from tests.support.sublayers import Watch, check_bare, check_sublayer

_SIZES: Final = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

# A post-norm model, a pre-norm one that an option makes one, and one whose modules are named as a known one's.
MPNET: Final[dict[str, Any]] = {
    "model_type": "mpnet",
    "norm_style": "post",
    "layouts": [
        {
            "encoder": {
                "layers": "encoder.layer.*",
                "before": "embeddings",
                "norms_before": ["embeddings.LayerNorm"],
                "sublayers": {
                    "self_attn": {
                        "linear": "attention.attn.o",
                        "output": "attention.dropout",
                        "norm": "attention.LayerNorm",
                        "residual": "attention.attn.q",
                    },
                    "ffn": {
                        "linear": "output.dense",
                        "output": "output.dropout",
                        "norm": "output.LayerNorm",
                        "residual": "intermediate",
                    },
                },
            }
        }
    ],
}
NEOX: Final[dict[str, Any]] = {
    "model_type": "gpt_neox",
    "norm_style": "pre",
    "layouts": [
        {
            "decoder": {
                "layers": "layers.*",
                "before": "emb_dropout",
                "sublayers": {
                    "self_attn": {
                        "linear": "attention.dense",
                        "output": "post_attention_dropout",
                        "norm": "input_layernorm",
                    },
                    "ffn": {
                        "linear": "mlp.dense_4h_to_h",
                        "output": "post_mlp_dropout",
                        "norm": "post_attention_layernorm",
                    },
                },
                "norms_after": ["final_layer_norm"],
            }
        }
    ],
}
BINDINGS: Final = {
    "mpnet": MPNET,
    "gpt_neox": NEOX,
    "camembert": {"model_type": "camembert", "like": "roberta"},
}
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "mpnet": _SIZES,
    "gpt_neox": _SIZES | {"use_parallel_residual": False},
    "camembert": _SIZES,
}
models = pytest.mark.parametrize("model_type", BINDINGS)


def build(model_type: str, **options: Any) -> Any:
    """A random base model in evaluation mode, float64, with norms and biases off their neutral values."""
    config = AutoConfig.for_model(model_type, **(OPTIONS[model_type] | options))
    with torch.random.fork_rng(devices=[]):
        model = AutoModel.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(crc32(name.encode())))
            is_gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + 0.2 * noise if is_gain else 0.3 * noise)
    return model.eval().double()


def binding_of(data: dict[str, Any], folder: Path) -> Binding:
    path = folder / "binding.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return read_binding(path)


def test_they_have_no_binding_here() -> None:
    assert not set(BINDINGS) & set(known_model_types())


@pytest.mark.spec("PLC-2", "PLC-3", "PLC-8")
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
@models
def test_every_sublayer_is_the_reference_s(model_type: str, preset: str, tmp_path: Path) -> None:
    model, binding = build(model_type), binding_of(BINDINGS[model_type], tmp_path)
    watch = Watch(model, binding)
    with torch.no_grad():
        run(model, backbone_inputs(model))
    for site_id in describe_backbone(model, binding).modules:
        check_bare(watch, site_id)
    watch = Watch(model, binding)
    config = tiny_adapter_config(model, binding=binding, attach=ATTACH_PRESETS[preset])
    attached = attach_trained(model, config, binding=binding)
    with torch.no_grad():
        run(model, backbone_inputs(model))
    for site in config.sites:
        check_sublayer(attached, watch, site.id)


@models
def test_train_save_load_and_detach(model_type: str, tmp_path: Path) -> None:
    model, binding = build(model_type), binding_of(BINDINGS[model_type], tmp_path)
    inputs = backbone_inputs(model)
    with torch.no_grad():
        bare = run(model, inputs)
    attached = attach_trained(model, tiny_adapter_config(model, binding=binding), binding=binding)
    backward(run(model, inputs).square().sum())
    unused = {
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    }
    assert not unused
    norms = {name for name, module in model.named_modules() if type(module).__name__.endswith("Norm")}
    assert set(describe_backbone(model, binding).norms) == norms
    save_pretrained(model, tmp_path / "adapter")
    twin = build(model_type)
    from_pretrained(twin, tmp_path / "adapter", binding=binding)
    with torch.no_grad():
        assert torch.equal(run(twin, inputs), run(model, inputs))
        detach(model)
        assert torch.equal(run(model, inputs), bare)
    assert attached.config.backbone is not None
    assert attached.config.backbone.model_type == model_type


@models
def test_true_bindings_pass(model_type: str, tmp_path: Path) -> None:
    model = build(model_type).train()
    check_binding(model, backbone_inputs(model), binding_of(BINDINGS[model_type], tmp_path))
    assert model.training
    assert sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules()) == 0


@pytest.mark.parametrize("model_type", BACKBONES)
def test_our_own_bindings_pass(model_type: str) -> None:
    model = tiny_backbone(model_type)
    check_binding(model, backbone_inputs(model))


def _changed(data: dict[str, Any], sublayer: str, **names: str) -> dict[str, Any]:
    changed = copy.deepcopy(data)
    (stack,) = changed["layouts"][0].values()
    stack["sublayers"][sublayer] |= names
    return changed


FALSE: Final = {
    "output before an activation": ("gpt_neox", _changed(NEOX, "ffn", output="mlp.dense_h_to_4h")),
    "norm of another sublayer": ("gpt_neox", _changed(NEOX, "ffn", norm="input_layernorm")),
    "residual of another sublayer": ("mpnet", _changed(MPNET, "ffn", residual="attention.attn.q")),
    "output inside the attention": ("mpnet", _changed(MPNET, "self_attn", output="attention.attn.v")),
    "a module that is not there": ("mpnet", _changed(MPNET, "ffn", norm="output.norm")),
}


@pytest.mark.parametrize("what", FALSE)
def test_false_bindings_are_refused(what: str, tmp_path: Path) -> None:
    model_type, data = FALSE[what]
    model = build(model_type)
    with pytest.raises(CompacterError) as error:
        check_binding(model, backbone_inputs(model), binding_of(data, tmp_path))
    assert error.value.code is ErrorCode.E803
    assert sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules()) == 0


def test_an_architecture_of_another_shape_is_refused(tmp_path: Path) -> None:
    """Attention and feed-forward side by side: there is no sublayer that ends with r + h."""
    model = build("gpt_neox", use_parallel_residual=True)
    with pytest.raises(CompacterError) as error:
        check_binding(model, backbone_inputs(model), binding_of(NEOX, tmp_path))
    assert error.value.code is ErrorCode.E803


def test_layers_that_do_not_run_are_refused() -> None:
    model = tiny_backbone("t5")
    inputs = backbone_inputs(model)
    model.decoder.forward = lambda **_: model.encoder(input_ids=inputs["decoder_input_ids"])
    with pytest.raises(CompacterError) as error:
        check_binding(model, inputs)
    assert error.value.code is ErrorCode.E803
    assert error.value.value == "decoder.0.self_attn"


@pytest.mark.parametrize("key", ["norms_after", "norms_before"])
def test_norms_have_to_be_in_the_order_in_which_they_run(key: str, tmp_path: Path) -> None:
    """Their positions say, in a graph, which norm is which."""
    data = copy.deepcopy(MPNET)
    del data["layouts"][0]["encoder"]["norms_before"]
    names = {"norms_after": ["embeddings.LayerNorm"], "norms_before": ["encoder.layer.1.output.LayerNorm"]}
    data["layouts"][0]["encoder"][key] = names[key]
    model = build("mpnet")
    with pytest.raises(CompacterError) as error:
        check_binding(model, backbone_inputs(model), binding_of(data, tmp_path))
    assert error.value.code is ErrorCode.E803


def test_adapters_are_in_the_way() -> None:
    model = tiny_backbone("bert")
    attach(model, tiny_adapter_config(model))
    with pytest.raises(CompacterError) as error:
        check_binding(model, backbone_inputs(model))
    assert error.value.code is ErrorCode.E804
