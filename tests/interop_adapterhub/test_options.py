"""Every option of AdapterHub that works there, one after the other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import (
    BnConfig,
    CompacterConfig,
    CompacterPlusPlusConfig,
    DoubleSeqBnConfig,
    ParBnConfig,
    SeqBnConfig,
)

from compacter_core.config import ATTACH_PRESETS, Attach
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.activations import ACTIVATIONS
from compacter_core.importers.adapterhub import from_adapterhub
from compacter_core.vocabulary import Activation, Input, Skip
from tests.interop_adapterhub.world import World

PHM: dict[str, dict[str, Any]] = {
    "rule per projection": {"shared_phm_rule": False},
    "factored rule": {"factorized_phm_rule": True},
    "factored rule per projection": {"factorized_phm_rule": True, "shared_phm_rule": False},
    "weights not factored": {"factorized_phm_W": False},
    "shared weights": {"shared_W_phm": True},
    "shared weights, rule per projection": {"shared_W_phm": True, "shared_phm_rule": False},
    "rank 3": {"phm_rank": 3},
    "n = 1": {"phm_dim": 1},
    "n = 4": {"phm_dim": 4},
    "no bias": {"phm_bias": False},
    "uniform, fixed rule": {"phm_c_init": "uniform", "learn_phm": False},
}
SITES: dict[str, dict[str, Any]] = {
    "left out": {"leave_out": [0]},
    "left out in the decoder": {"leave_out": [2]},
    "cross-attention": {"cross_adapter": True},
    "feed-forward alone": {"mh_adapter": False},
    "attention alone": {"output_adapter": False},
    "a width per layer": {"reduction_factor": {"1": 2, "default": 8}},
    "wider than the model": {"reduction_factor": 0.5},
    "an uneven width": {"reduction_factor": 3},
}
SCALINGS: dict[str, Any] = {"fixed": 2.5, "learned": "learned", "channel": "channel"}


@pytest.mark.parametrize("options", PHM.values(), ids=PHM)
@pytest.mark.parametrize("model_class", ["BertModel", "T5ForConditionalGeneration"])
def test_phm_options(model_class: str, options: dict[str, Any], world: World, tmp_path: Path) -> None:
    config = CompacterConfig(**{"phm_dim": 2, "reduction_factor": 4, **options})
    world.check(model_class, config, tmp_path)


@pytest.mark.parametrize("options", SITES.values(), ids=SITES)
@pytest.mark.parametrize(
    "model_class", ["BertForSequenceClassification", "T5ForConditionalGeneration", "LlamaForCausalLM"]
)
def test_sites(model_class: str, options: dict[str, Any], world: World, tmp_path: Path) -> None:
    config = DoubleSeqBnConfig(**{"reduction_factor": 4, **options})
    adapter = world.check(model_class, config, tmp_path).adapter
    if "leave_out" in options and model_class == "T5ForConditionalGeneration":
        missing = "encoder.0." if options["leave_out"] == [0] else "decoder.0."
        assert not any(site.id.startswith(missing) for site in adapter.config.sites)


@pytest.mark.parametrize("scaling", SCALINGS.values(), ids=SCALINGS)
@pytest.mark.parametrize("kind", [SeqBnConfig, ParBnConfig, CompacterConfig])
def test_scaling(kind: type, scaling: Any, world: World, tmp_path: Path) -> None:
    config = kind(reduction_factor=4, scaling=scaling, phm_dim=2)
    world.check("BertForSequenceClassification", config, tmp_path)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, world: World, tmp_path: Path) -> None:
    config = SeqBnConfig(reduction_factor=2, non_linearity=name)
    adapter = world.check("GPT2LMHeadModel", config, tmp_path).adapter
    assert adapter.config.non_linearity is ACTIVATIONS[name]
    assert set(ACTIVATIONS.values()) == set(Activation)


POST_ADD = Attach(input=Input.NORMED_SUM, skip=Skip.RESIDUAL_SUM, post=False)
PLACEMENTS: dict[str, tuple[dict[str, Any], Attach]] = {
    "behind the sublayer": ({}, ATTACH_PRESETS["houlsby"]),
    "behind the sublayer, other residual": ({"residual_before_ln": False}, ATTACH_PRESETS["houlsby"]),
    "behind the norm": ({"original_ln_before": True}, ATTACH_PRESETS["pfeiffer"]),
    "behind the norm, alone": (
        {"original_ln_before": True, "original_ln_after": False, "residual_before_ln": False},
        ATTACH_PRESETS["adapter_plus"],
    ),
    "behind the norm, sum kept": (
        {"original_ln_before": True, "original_ln_after": False, "residual_before_ln": "post_add"},
        POST_ADD,
    ),
    "parallel": ({"is_parallel": True}, ATTACH_PRESETS["parallel"]),
}


@pytest.mark.parametrize(("options", "attach"), PLACEMENTS.values(), ids=PLACEMENTS)
@pytest.mark.parametrize(
    "model_class", ["BertForSequenceClassification", "BartForConditionalGeneration", "DistilBertModel"]
)
def test_placements_of_post_norm_models(
    model_class: str,
    options: dict[str, Any],
    attach: Attach,
    world: World,
    tmp_path: Path,
) -> None:
    config = BnConfig(mh_adapter=True, output_adapter=True, reduction_factor=4, non_linearity="relu", **options)
    adapter = world.check(model_class, config, tmp_path).adapter
    assert adapter.config.attach == attach


@pytest.mark.parametrize("name", ["sst-2_v1", "my adapter", "glue@ukp", "é" * 70])
def test_names(name: str, world: World, tmp_path: Path) -> None:
    config = CompacterPlusPlusConfig(phm_dim=2, reduction_factor=4)
    adapter = world.check("RobertaForSequenceClassification", config, tmp_path, name=name).adapter
    assert (adapter.config.name == name) == (name == "sst-2_v1")


def test_pickles_give_the_same_adapter(world: World, tmp_path: Path) -> None:
    theirs, backbone = world.source("BertForSequenceClassification"), world.known("BertForSequenceClassification")
    for folder in ("safe", "pickled"):
        (tmp_path / folder).mkdir()
    options = {"phm_dim": 2, "reduction_factor": 4}
    safe = from_adapterhub(theirs.save(tmp_path / "safe", CompacterConfig(**options)), backbone=backbone)
    directory = theirs.save(tmp_path / "pickled", CompacterConfig(**options), use_safetensors=False)
    with pytest.raises(CompacterError) as refused:
        from_adapterhub(directory, backbone=backbone)
    assert refused.value.code is ErrorCode.E112
    unpickled = from_adapterhub(directory, backbone=backbone, allow_pickle=True)
    assert unpickled.adapter.config == safe.adapter.config
    assert {name: array.tolist() for name, array in unpickled.adapter.tensors.items()} == {
        name: array.tolist() for name, array in safe.adapter.tensors.items()
    }
    assert all(np.isfinite(array).all() for array in safe.adapter.tensors.values())
