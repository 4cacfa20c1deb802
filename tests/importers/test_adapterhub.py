"""Reading AdapterHub's directories without AdapterHub: names, values, and every way to be refused.

tests/interop_adapterhub compares with the library itself.
"""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as torch_save

from compacter_core.adapter import DType
from compacter_core.config import ATTACH_PRESETS, Backbone
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.importers.adapterhub import from_adapterhub, save_adapterhub
from compacter_core.pytorch.known_backbone import TransformersBackbone, open_backbone
from compacter_core.reference.adapter import delta
from compacter_core.reference.bounds import delta_bound
from compacter_core.vocabulary import Activation, NormStyle, Stack
from tests.importers.hub_directories import LAYERS, NAME, D, layer_delta, options, tensors, write
from tests.support.models import tiny_model

LEARNED = ("learned", "channel")


def refusal(directory: Path, **arguments: Any) -> CompacterError:
    with pytest.raises(CompacterError) as refused:
        from_adapterhub(directory, **arguments)
    return refused.value


@st.composite
def drawn_options(draw: st.DrawFn) -> dict[str, Any]:
    """Options that AdapterHub can build."""
    factorized = draw(st.booleans())
    own = options(
        phm_layer=draw(st.booleans()),
        phm_dim=draw(st.sampled_from([1, 2, 4])),
        phm_rank=draw(st.integers(1, 3)),
        phm_bias=draw(st.booleans()),
        factorized_phm_W=factorized,
        factorized_phm_rule=draw(st.booleans()),
        shared_phm_rule=draw(st.booleans()),
        shared_W_phm=factorized and draw(st.booleans()),
        scaling=draw(st.sampled_from([*LEARNED, 1.0, -2.5, 3])),
        non_linearity="relu",
        leave_out=draw(st.sampled_from([[], [0], [1]])),
        mh_adapter=draw(st.booleans()),
    )
    if own["shared_W_phm"] and own["shared_phm_rule"] and own["scaling"] not in LEARNED:
        own["phm_bias"] = True  # without it no layer has a tensor of its own, and the sites are unknown
    return own


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(own=drawn_options(), seed=st.integers(0, 2**32 - 1))
def test_every_site_computes_what_its_tensors_say(own: dict[str, Any], seed: int, tmp_path: Path) -> None:
    state = {key: value.astype(np.float64) for key, value in tensors(own).items()}
    adapter = from_adapterhub(write(tmp_path / "saved", own, state)).adapter
    expected = [
        f"encoder.{layer}.{sublayer}"
        for layer in range(LAYERS)
        if layer not in own["leave_out"]
        for sublayer, flag in (("self_attn", "mh_adapter"), ("ffn", "output_adapter"))
        if own[flag]
    ]
    assert [site.id for site in adapter.config.sites] == expected
    x = np.random.default_rng(seed).standard_normal((3, D))
    for site in adapter.config.sites:
        place = "attention.output" if site.sublayer == "self_attn" else "output"
        owner = f"bert.encoder.layer.{site.layer}.{place}.adapters.{NAME}"
        parameters = adapter.site(site.id)
        bound = delta_bound(parameters, x, storage=DType.F64, accumulate=DType.F64)
        assert np.all(np.abs(delta(parameters, x) - layer_delta(own, state, owner, x)) <= 2 * bound)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("prefix", ["", "bert.", "model."])
def test_values_types_and_prefixes(prefix: str, dtype: Any, tmp_path: Path) -> None:
    own = options(phm_layer=False)
    state = {key: value.astype(dtype) for key, value in tensors(own, prefix=prefix).items()}
    adapter = from_adapterhub(write(tmp_path / "saved", own, state)).adapter
    key = f"{prefix}encoder.layer.1.output.adapters.a.adapter_up"
    assert adapter.dtype.memory == np.dtype(dtype)
    assert np.array_equal(adapter.tensors["site.encoder.1.ffn.up.W"], state[f"{key}.weight"].T)
    assert np.array_equal(adapter.tensors["site.encoder.1.ffn.up.b"], state[f"{key}.bias"])
    assert adapter.config.attach == ATTACH_PRESETS["houlsby"]


def test_what_training_needed_is_kept_and_paths_are_not(tmp_path: Path) -> None:
    config = from_adapterhub(write(tmp_path / "saved", options(dropout=0.1))).adapter.config
    kept = config.training["adapterhub"]
    assert isinstance(kept, dict)
    assert (kept["dropout"], kept["version"]) == (0.1, "adapters.1.3.0")
    assert "somebody" not in json.dumps(dict(config.training))


@pytest.mark.parametrize(
    ("name", "version", "activation"),
    [
        ("gelu", "adapters.1.3.0", Activation.GELU),
        ("gelu", None, Activation.GELU_NEW),
        ("gelu_orig", None, Activation.GELU),
        ("GELU_NEW", None, Activation.GELU_NEW),
        ("swish", None, Activation.SILU),
    ],
)
def test_the_version_decides_what_gelu_is(
    name: str, version: str | None, activation: Activation, tmp_path: Path
) -> None:
    imported = from_adapterhub(write(tmp_path / "saved", options(non_linearity=name), version=version))
    assert imported.adapter.config.non_linearity is activation
    assert any(name in note for note in imported.notes) == (version is None and name in ("gelu", "gelu_orig"))


@pytest.mark.parametrize("old", ["attention_text_task_adapters", "layer_text_lang_adapters"])
def test_names_of_the_first_versions(old: str, tmp_path: Path) -> None:
    saved = tensors(options())
    state = {key.replace("adapters.a", f"{old}.a"): value for key, value in saved.items()}
    new = from_adapterhub(write(tmp_path / "new")).adapter
    renamed = from_adapterhub(write(tmp_path / "old", state=state)).adapter
    assert {name: array.tolist() for name, array in new.tensors.items()} == {
        name: array.tolist() for name, array in renamed.tensors.items()
    }
    both = {**state, **saved}
    assert refusal(write(tmp_path / "both", state=both)).code is ErrorCode.E307


RULE = "bert.shared_parameters.a.phm_rule"
LEFT = "bert.encoder.layer.0.output.adapters.a.adapter_down.0.W_left"


def without(key: str) -> Any:
    return lambda state: {name: value for name, value in state.items() if name != key}


def with_tensor(key: str, shape: tuple[int, ...] = (1,), value: float = 0.0) -> Any:
    return lambda state: {**state, key: np.full(shape, value, dtype=np.float32)}


BAD_TENSORS: dict[str, tuple[ErrorCode, Any]] = {
    "no shared rule": (ErrorCode.E302, without(RULE)),
    "no factor": (ErrorCode.E301, without(LEFT)),
    "unknown tensor": (ErrorCode.E303, with_tensor("bert.encoder.layer.0.output.adapters.a.gate.weight")),
    "tensor of another adapter": (ErrorCode.E303, with_tensor("bert.encoder.layer.0.output.adapters.b.adapter_up.b")),
    "invertible adapter": (ErrorCode.E303, with_tensor("bert.invertible_adapters.a.F.0.weight")),
    "place outside the architecture": (ErrorCode.E303, with_tensor("bert.pooler.adapters.a.adapter_up.b")),
    "both forms": (ErrorCode.E303, with_tensor(LEFT.replace("W_left", "W"), (2, 4, 2))),
    "another shape": (ErrorCode.E304, with_tensor(LEFT, (2, 3, 1))),
    "no matrix": (ErrorCode.E304, with_tensor(LEFT.replace("W_left", "W_right"), (2,))),
    "a NaN": (ErrorCode.E306, with_tensor(LEFT, (2, 4, 1), np.nan)),
    "two prefixes": (ErrorCode.E501, with_tensor("model.encoder.layer.0.output.adapters.a.scaling")),
    "a rule with another prefix": (ErrorCode.E501, with_tensor("shared_parameters.a.phm_rule", (2, 2, 2))),
    "no adapter": (ErrorCode.E501, lambda state: {"bert.pooler.weight": np.zeros(1, dtype=np.float32)}),
    "integers": (ErrorCode.E003, lambda state: {**state, RULE: np.zeros((2, 2, 2), dtype=np.int32)}),
}


@pytest.mark.parametrize(("code", "change"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_bad_tensors(code: ErrorCode, change: Any, tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "saved", state=change(tensors(options())))).code is code


BAD_OPTIONS: dict[str, tuple[ErrorCode, dict[str, Any]]] = {
    "invertible": (ErrorCode.E502, {"inv_adapter": "nice"}),
    "invertible, before 2.0": (ErrorCode.E502, {"invertible_adapter": {"block_type": "nice"}}),
    "ln_before": (ErrorCode.E502, {"ln_before": True}),
    "ln_after": (ErrorCode.E502, {"ln_after": True}),
    "gating": (ErrorCode.E502, {"use_gating": True}),
    "stochastic depth": (ErrorCode.E502, {"stochastic_depth": 0.1}),
    "architecture": (ErrorCode.E502, {"architecture": "lora"}),
    "unknown option": (ErrorCode.E502, {"new_option": None}),
    "unknown activation": (ErrorCode.E502, {"non_linearity": "mish"}),
    "shared weights that are not factored": (ErrorCode.E502, {"shared_W_phm": True, "factorized_phm_W": False}),
    "placement": (ErrorCode.E502, {"original_ln_after": False}),
    "scaling": (ErrorCode.E501, {"scaling": "large"}),
    "scaling is true": (ErrorCode.E501, {"scaling": True}),
    "a flag that is none": (ErrorCode.E501, {"phm_layer": "yes"}),
    "phm_dim": (ErrorCode.E501, {"phm_dim": 0}),
    "phm_rank": (ErrorCode.E501, {"phm_rank": 1.5}),
    "reduction_factor": (ErrorCode.E501, {"reduction_factor": -1}),
    "reduction_factor by layer": (ErrorCode.E501, {"reduction_factor": {"0": 0}}),
    "leave_out": (ErrorCode.E501, {"leave_out": ["first"]}),
    "residual_before_ln": (ErrorCode.E501, {"residual_before_ln": "never"}),
    "non_linearity": (ErrorCode.E501, {"non_linearity": None}),
    "a layer that should be left out": (ErrorCode.E303, {"leave_out": [1]}),
    "phm_dim that does not divide d": (ErrorCode.E207, {"phm_dim": 3}),
}


@pytest.mark.parametrize(("code", "change"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options(code: ErrorCode, change: dict[str, Any], tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "saved", options(**change), tensors(options()))).code is code


@pytest.mark.parametrize("name", ["mh_adapter", "output_adapter", "reduction_factor", "non_linearity"])
def test_options_that_have_no_default(name: str, tmp_path: Path) -> None:
    own = {key: value for key, value in options().items() if key != name}
    assert refusal(write(tmp_path / "saved", own, tensors(options()))).code is ErrorCode.E501


def test_options_that_have_one(tmp_path: Path) -> None:
    needed = ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity", "phm_layer", "phm_dim")
    own = {key: options()[key] for key in needed}
    full = from_adapterhub(write(tmp_path / "full")).adapter
    short = from_adapterhub(write(tmp_path / "short", own, tensors(options()))).adapter
    assert (short.config.projection, short.config.attach) == (full.config.projection, full.config.attach)


@pytest.mark.parametrize(
    "changes",
    [{"config": "pfeiffer"}, {"config": None}, {"name": None}, {"hidden_size": "8"}, {"model_type": 1}],
)
def test_files_that_are_none(changes: dict[str, Any], tmp_path: Path) -> None:
    directory = write(tmp_path / "saved")
    data = json.loads((directory / "adapter_config.json").read_text()) | changes
    (directory / "adapter_config.json").write_text(json.dumps(data))
    assert refusal(directory).code is ErrorCode.E501


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("adapter_config.json", None, ErrorCode.E501),
        ("adapter_config.json", b"{", ErrorCode.E501),
        ("adapter_config.json", b"[]", ErrorCode.E501),
        ("adapter_config.json", b'{"name": 1, "name": 2}', ErrorCode.E104),
        ("adapter.safetensors", None, ErrorCode.E501),
        ("adapter.safetensors", b"\x80\x04no tensors", ErrorCode.E112),
        ("adapter_fusion_config.json", b"{}", ErrorCode.E502),
        ("adapter_setup.json", b"{}", ErrorCode.E502),
        ("adapter_interface.json", b'{"interface": {}}', ErrorCode.E001),
        ("adapter_interface.json", b'{"interface": 1}', ErrorCode.E501),
    ],
)
def test_directories_that_are_none(name: str, content: bytes | None, code: ErrorCode, tmp_path: Path) -> None:
    directory = write(tmp_path / "saved")
    if content is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(content)
    assert refusal(directory).code is code


NESTED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    own=st.dictionaries(st.sampled_from([*options(), "architecture", "invertible_adapter"]), NESTED, max_size=3),
    around=st.dictionaries(st.sampled_from(["name", "model_type", "hidden_size", "version"]), NESTED, max_size=1),
)
def test_any_configuration_is_imported_or_refused(own: dict[str, Any], around: dict[str, Any], tmp_path: Path) -> None:
    directory = write(tmp_path / "saved", options(**own), tensors(options()), **around)
    with suppress(CompacterError):
        adapter_bytes(from_adapterhub(directory).adapter)


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    directory = write(tmp_path / "saved")
    halved = {key: torch.from_numpy(value).bfloat16() for key, value in tensors(options()).items()}
    torch_save(halved, directory / "adapter.safetensors")
    adapter = from_adapterhub(directory).adapter
    assert adapter.dtype is DType.BF16
    assert np.array_equal(adapter.tensors["shared.phm_rule"], halved[RULE].float().numpy())
    bert = Backbone(model_type="bert", hidden_size=D, num_layers={Stack.ENCODER: LAYERS}, norm_style=NormStyle.POST)
    described = replace(adapter, config=replace(adapter.config, backbone=bert))
    save_adapterhub(described, tmp_path / "back")  # in float32, which NumPy has
    again = from_adapterhub(tmp_path / "back").adapter
    assert all(np.array_equal(again.tensors[name], array) for name, array in adapter.tensors.items())


def test_an_architecture_that_is_not_known(tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "saved", model_type="gpt_neox")).code is ErrorCode.E502


def test_a_lost_rule_can_be_supplied(tmp_path: Path) -> None:
    state = tensors(options(), prefix="")
    rule = state.pop("shared_parameters.a.phm_rule")
    directory = write(tmp_path / "saved", state=state)
    error = refusal(directory)
    assert error.code is ErrorCode.E302
    assert "--shared-parameters" in str(error.remedy)
    for name in ("phm_rule", "shared_parameters.a.phm_rule", "bert.shared_parameters.a.phm_rule"):
        save_file({name: rule}, tmp_path / "shared.safetensors")
        adapter = from_adapterhub(directory, shared_parameters=tmp_path / "shared.safetensors").adapter
        assert np.array_equal(adapter.tensors["shared.phm_rule"], rule)
    save_file({"other": rule}, tmp_path / "shared.safetensors")
    assert refusal(directory, shared_parameters=tmp_path / "shared.safetensors").code is ErrorCode.E302


def test_a_supplied_rule_does_not_replace_one(tmp_path: Path) -> None:
    directory = write(tmp_path / "saved")
    save_file({"phm_rule": np.zeros((2, 2, 2), dtype=np.float32)}, tmp_path / "shared.safetensors")
    assert refusal(directory, shared_parameters=tmp_path / "shared.safetensors").code is ErrorCode.E307
    own = load_file(directory / "adapter.safetensors")[RULE]
    save_file({"phm_rule": own}, tmp_path / "shared.safetensors")
    from_adapterhub(directory, shared_parameters=tmp_path / "shared.safetensors")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackbone:
    """BERT with d = 16 and two layers."""
    directory = tmp_path_factory.mktemp("backbone")
    tiny_model("bert", "base").save_pretrained(directory)
    with torch.random.fork_rng(devices=[]):
        return open_backbone(directory)


def write_wide(folder: Path, own: dict[str, Any], **changes: Any) -> Path:
    """A dense adapter of the backbone's size: rows and columns of d = 8 are repeated."""
    state = {
        key: np.tile(value, tuple(2 if size == D else 1 for size in value.shape)) for key, value in tensors(own).items()
    }
    return write(folder, own, state, hidden_size=16, **changes)


def test_the_backbone_tells_what_is_missing(backbone: TransformersBackbone, tmp_path: Path) -> None:
    own = options(phm_layer=False, reduction_factor=4)
    whole = from_adapterhub(write_wide(tmp_path / "whole", own), backbone=backbone).adapter
    assert len(whole.config.sites) == 2 * LAYERS
    assert {name.rpartition(".")[0] for name in whole.sketches} == {f"sketch.{site.id}" for site in whole.config.sites}
    state = load_file(tmp_path / "whole" / "adapter.safetensors")
    cut = {key: value for key, value in state.items() if ".layer.1." not in key}
    directory = write(tmp_path / "cut", own, cut, hidden_size=16)
    assert refusal(directory, backbone=backbone).code is ErrorCode.E301
    # Alone it looks whole, and the importer says that it cannot know.
    assert "cannot be checked" in from_adapterhub(directory).notes[-1]


def test_sites_without_tensors_of_their_own_need_the_backbone(backbone: TransformersBackbone, tmp_path: Path) -> None:
    own = options(shared_W_phm=True, phm_bias=False, reduction_factor=4)
    state = {"bert.shared_parameters.a.phm_rule": np.ones((2, 2, 2), dtype=np.float32)}
    state["bert.shared_parameters.a.W_down_left"] = np.ones((2, 8, 1), dtype=np.float32)
    state["bert.shared_parameters.a.W_down_right"] = np.ones((2, 1, 2), dtype=np.float32)
    state["bert.shared_parameters.a.W_up_left"] = np.ones((2, 2, 1), dtype=np.float32)
    state["bert.shared_parameters.a.W_up_right"] = np.ones((2, 1, 8), dtype=np.float32)
    directory = write(tmp_path / "saved", own, state, hidden_size=16)
    assert refusal(directory).code is ErrorCode.E501
    assert len(from_adapterhub(directory, backbone=backbone).adapter.config.sites) == 2 * LAYERS


CONTRADICTIONS: dict[str, tuple[ErrorCode, dict[str, Any], dict[str, Any]]] = {
    "another width": (ErrorCode.E304, {"reduction_factor": 2}, {}),
    "another width in one layer": (ErrorCode.E304, {"reduction_factor": {"0": 4, "1": 8}}, {}),
    "a layer without factor": (ErrorCode.E501, {"reduction_factor": {"0": 4}}, {}),
    "a layer that should be left out": (ErrorCode.E303, {"leave_out": [1]}, {}),
    "a sublayer that should be": (ErrorCode.E303, {"mh_adapter": False}, {}),
    "another architecture": (ErrorCode.E401, {}, {"model_type": "roberta"}),
}


@pytest.mark.parametrize(("code", "change", "around"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions(
    code: ErrorCode,
    change: dict[str, Any],
    around: dict[str, Any],
    backbone: TransformersBackbone,
    tmp_path: Path,
) -> None:
    saved = options(phm_layer=False, reduction_factor=4)
    write_wide(tmp_path / "saved", saved)
    state = load_file(tmp_path / "saved" / "adapter.safetensors")
    directory = write(tmp_path / "changed", {**saved, **change}, state, **{"hidden_size": 16, **around})
    assert refusal(directory, backbone=backbone).code is code


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_backbone_that_is_damaged(name: str, tmp_path: Path) -> None:
    tiny_model("bert", "base").save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(CompacterError) as refused:
        open_backbone(tmp_path)
    assert refused.value.code is ErrorCode.E005


def test_a_backbone_of_another_size(backbone: TransformersBackbone, tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "saved"), backbone=backbone).code is ErrorCode.E401
