"""What AdapterHub loses or computes wrongly: shown to happen there, and refused here."""

from pathlib import Path
from typing import Any

import pytest
from adapters import AdapterModelInterface, CompacterConfig
from safetensors.torch import load_file, save_file

from compacter_core.config import ATTACH_PRESETS
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.adapterhub import from_adapterhub, save_adapterhub
from compacter_core.pytorch.known_backbone import open_backbone
from tests.interop_adapterhub.cases import UNPREFIXED
from tests.interop_adapterhub.refusals import POST_NORM, POST_NORMS, POST_RESIDUALS, bottleneck
from tests.interop_adapterhub.sources import SHARED_FILE, Source, difference
from tests.interop_adapterhub.world import RELATIVE_F64, World, load_plain, outputs_with

PRE_NORM = {
    "adapter_methods": ["bottleneck"],
    "model_embeddings": "embed_tokens",
    "model_layers": "layers",
    "layer_self_attn": "self_attn",
    "layer_cross_attn": None,
    "attn_k_proj": "k_proj",
    "attn_q_proj": "q_proj",
    "attn_v_proj": "v_proj",
    "attn_o_proj": "o_proj",
    "layer_intermediate_proj": "mlp.up_proj",
    "layer_output_proj": "mlp.down_proj",
}
PRE_RESIDUALS = {"layer_pre_self_attn": "input_layernorm", "layer_pre_ffn": "post_attention_layernorm"}


@pytest.mark.parametrize("model_class", sorted(UNPREFIXED))
def test_a_model_without_prefix_is_saved_without_its_rule(model_class: str, world: World, tmp_path: Path) -> None:
    theirs = world.source(model_class)
    directory = theirs.save(tmp_path, CompacterConfig(phm_dim=2, reduction_factor=4))
    want = theirs.outputs()
    assert difference(want, theirs.loaded(directory)) > 1e6 * RELATIVE_F64  # the library does not notice
    with pytest.raises(CompacterError) as refused:
        from_adapterhub(directory, backbone=world.known(model_class))
    assert refused.value.code is ErrorCode.E302
    assert "--shared-parameters" in str(refused.value.remedy)
    rescued = from_adapterhub(directory, backbone=world.known(model_class), shared_parameters=tmp_path / SHARED_FILE)
    save_adapterhub(rescued.adapter, tmp_path / "whole")
    assert difference(want, theirs.loaded(tmp_path / "whole")) == 0.0


def plugin(folder: Path, model_class: str, model_type: str, interface: dict[str, Any]) -> Source:
    return Source(folder, model_class, model_type, interface=AdapterModelInterface(**interface))


def test_a_plugin_computes_every_layer_with_the_last_layers_norm(tmp_path: Path) -> None:
    theirs = plugin(tmp_path, "BertForSequenceClassification", "bert", POST_NORM | POST_RESIDUALS | POST_NORMS)
    directory = theirs.save(tmp_path, bottleneck(original_ln_before=True))
    backbone = open_backbone(theirs.backbone)
    with pytest.raises(CompacterError) as refused:
        from_adapterhub(directory, backbone=backbone)
    assert refused.value.code is ErrorCode.E503
    (directory / "adapter_interface.json").unlink()  # were it believed, the result would be another
    renamed = {
        "attention_adapters.adapters": "attention.output.adapters",
        "output_adapters.adapters": "output.adapters",
    }
    rename_keys(directory / "adapter.safetensors", renamed)
    believed = from_adapterhub(directory, backbone=backbone)
    model = load_plain(theirs, "BertForSequenceClassification")
    assert difference(theirs.outputs(), outputs_with(model, believed, theirs.inputs)) > 1e6 * RELATIVE_F64


def rename_keys(path: Path, renamed: dict[str, str]) -> None:
    tensors = {}
    for key, value in load_file(path).items():
        old = next(part for part in renamed if part in key)
        tensors[key.replace(old, renamed[old])] = value
    save_file(tensors, path)


PLUGINS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], str]] = {
    "post-norm, behind the sublayer": ("BertForSequenceClassification", "bert", POST_NORM, {}, "houlsby"),
    "post-norm, parallel": (
        "BertForSequenceClassification",
        "bert",
        POST_NORM | POST_RESIDUALS,
        {"is_parallel": True},
        "parallel",
    ),
    "post-norm, nothing to add": (
        "BertForSequenceClassification",
        "bert",
        POST_NORM,
        {"original_ln_before": True},
        "houlsby",
    ),
    "pre-norm, behind the sublayer": ("LlamaForCausalLM", "llama", PRE_NORM, {}, "houlsby"),
    "pre-norm, behind the sum": (
        "LlamaForCausalLM",
        "llama",
        PRE_NORM | PRE_RESIDUALS,
        {"original_ln_before": True},
        "pfeiffer",
    ),
    "pre-norm, parallel": ("Qwen2ForCausalLM", "qwen2", PRE_NORM | PRE_RESIDUALS, {"is_parallel": True}, "parallel"),
}


@pytest.mark.parametrize("case", PLUGINS.values(), ids=PLUGINS)
def test_plugins_that_can_be_imported(
    case: tuple[str, str, dict[str, Any], dict[str, Any], str], tmp_path: Path
) -> None:
    model_class, model_type, interface, options, preset = case
    theirs = plugin(tmp_path, model_class, model_type, interface)
    directory = theirs.save(tmp_path, bottleneck(**options))
    result = from_adapterhub(directory, backbone=open_backbone(theirs.backbone))
    assert result.adapter.config.attach == ATTACH_PRESETS[preset]
    model = load_plain(theirs, model_class)
    assert difference(theirs.outputs(), outputs_with(model, result, theirs.inputs)) <= RELATIVE_F64
