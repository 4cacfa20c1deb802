"""Writing for AdapterHub: what was read is written again; what it lacks is refused.

tests/interop_adapterhub loads the result with the library itself.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from compacter_core.adapter import Adapter, DType
from compacter_core.cli.main import main
from compacter_core.config import ATTACH_PRESETS, AdapterConfig, Attach, Backbone, Head, Override, Projection, Site
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import save_adapter
from compacter_core.importers.adapterhub import from_adapterhub, save_adapterhub
from compacter_core.importers.adapterhub.places import PLACES
from compacter_core.layout import adapter_layout
from compacter_core.pytorch.binding_files import known_model_types, load_binding
from compacter_core.vocabulary import (
    Activation,
    Input,
    NormStyle,
    OverrideKind,
    Pooling,
    ProjectionKind,
    ScalingKind,
    Skip,
    Stack,
    Sublayer,
)
from tests.importers.hub_directories import OPTIONS

D = 8
KINDS = [kind for kind in ProjectionKind if kind is not ProjectionKind.LOW_RANK]
HUB_ATTACHES = [*ATTACH_PRESETS.values(), Attach(input=Input.NORMED_SUM, skip=Skip.RESIDUAL_SUM, post=False)]


def backbone(model_type: str = "bert", layers: int = 3) -> Backbone:
    """Of a post-norm encoder."""
    return Backbone(
        model_type=model_type, hidden_size=D, num_layers={Stack.ENCODER: layers}, norm_style=NormStyle.POST, id="b"
    )


def adapter_of(config: AdapterConfig, *, dtype: DType = DType.F32, seed: int = 0) -> Adapter:
    generator = np.random.default_rng(seed)
    tensors = {
        name: generator.standard_normal(shape).astype(dtype.memory) for name, shape in adapter_layout(config).items()
    }
    return Adapter(config=config, tensors=tensors, dtype=dtype)


def config_of(**changes: Any) -> AdapterConfig:
    sites = [
        Site(id=f"encoder.{layer}.{sublayer}", bottleneck_size=4)
        for layer in range(3)
        for sublayer in ("self_attn", "ffn")
    ]
    plain = AdapterConfig(
        method="compacter",
        name="a",
        hidden_size=D,
        projection=Projection.compacter(2),
        sites=tuple(sites),
        backbone=backbone(),
    )
    return replace(plain, **changes)


@st.composite
def hub_configs(draw: st.DrawFn) -> AdapterConfig:
    """Configurations that AdapterHub has."""
    kind = draw(st.sampled_from(KINDS))
    has_rule = kind.has_rule
    n = draw(st.sampled_from([1, 2, 4])) if has_rule else None
    shared_W = kind is ProjectionKind.LPHM and draw(st.booleans())
    projection = Projection(
        kind=kind,
        phm_dim=n,
        phm_rank=draw(st.integers(1, 3)) if kind.has_rank else None,
        shared_phm_rule=has_rule and draw(st.booleans()),
        factorized_phm_rule=has_rule and draw(st.booleans()),
        shared_W=shared_W,
    )
    width = st.sampled_from([k for k in (1, 2, 3, 4, 8, 12, 16) if k % (n or 1) == 0 and (not shared_W or D % k == 0)])
    common = draw(width)
    sublayers = draw(st.sampled_from([("self_attn", "ffn"), ("ffn",), ("self_attn",)]))
    sites = []
    for layer in draw(st.sets(st.integers(0, 2), min_size=1)):
        k = common if shared_W else draw(width)
        sites += [Site(id=f"encoder.{layer}.{sublayer}", bottleneck_size=k) for sublayer in sublayers]
    has_bias = kind is ProjectionKind.DENSE or draw(st.booleans()) or shared_W
    return AdapterConfig(
        method="adapter",
        name=draw(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)),
        hidden_size=D,
        projection=projection,
        sites=tuple(sites),
        non_linearity=draw(st.sampled_from(Activation)),
        bias_down=has_bias,
        bias_up=has_bias,
        scaling=draw(st.sampled_from([*ScalingKind, 1.0, -0.25])),
        attach=draw(st.sampled_from(HUB_ATTACHES)),
        backbone=backbone(),
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=hub_configs(), dtype=st.sampled_from([DType.F64, DType.F32, DType.F16]), data=st.data())
def test_what_is_written_is_read_again(
    config: AdapterConfig, dtype: DType, data: st.DataObject, tmp_path: Path
) -> None:
    adapter = adapter_of(config, dtype=dtype, seed=data.draw(st.integers(0, 2**32 - 1)))
    folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    save_adapterhub(adapter, folder)
    again = from_adapterhub(folder).adapter
    same = ("hidden_size", "projection", "sites", "non_linearity", "bias_down", "bias_up", "scaling", "attach", "name")
    assert {what: getattr(again.config, what) for what in same} == {what: getattr(config, what) for what in same}
    options = json.loads((folder / "adapter_config.json").read_text())["config"]
    assert options["leave_out"] == sorted({0, 1, 2} - {site.layer for site in config.sites})
    assert again.dtype is dtype
    assert set(again.tensors) == set(adapter.tensors)
    assert all(np.array_equal(again.tensors[name], array) for name, array in adapter.tensors.items())
    assert all(key.startswith("bert.") for key in load_file(folder / "adapter.safetensors"))


def test_the_configuration_has_every_option(tmp_path: Path) -> None:
    save_adapterhub(adapter_of(config_of(non_linearity=Activation.GELU)), tmp_path / "out")
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["config"] == OPTIONS
    assert (written["version"], written["model_type"], written["name"]) == ("adapters.1.3.0", "bert", "a")


@pytest.mark.parametrize(("down", "up"), [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("kind", [Projection(kind=ProjectionKind.DENSE), Projection.compacter(2)])
def test_missing_biases_become_zeros(down: bool, up: bool, kind: Projection, tmp_path: Path) -> None:
    adapter = adapter_of(config_of(projection=kind, bias_down=down, bias_up=up))
    save_adapterhub(adapter, tmp_path / "out")
    again = from_adapterhub(tmp_path / "out").adapter
    for name, array in again.tensors.items():
        assert np.array_equal(array, adapter.tensors.get(name, np.zeros_like(array)))
    has_none = not (down or up) and kind.kind is not ProjectionKind.DENSE
    assert any(name.endswith(".b") for name in again.tensors) != has_none


SITE = Site(id="encoder.0.ffn", bottleneck_size=4)
IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "low-rank": {"projection": Projection(kind=ProjectionKind.LOW_RANK, phm_rank=1)},
    "shared dense weights": {"projection": Projection(kind=ProjectionKind.DENSE, shared_W=True)},
    "placement": {"attach": Attach(input=Input.RESIDUAL, skip=Skip.RESIDUAL_SUM, post=False)},
    "placements": {"sites": (SITE, Site(id="encoder.1.ffn", bottleneck_size=4, attach=ATTACH_PRESETS["parallel"]))},
    "half a layer": {
        "sites": (SITE, Site(id="encoder.0.self_attn", bottleneck_size=4), Site(id="encoder.1.ffn", bottleneck_size=4))
    },
    "widths in a layer": {"sites": (SITE, Site(id="encoder.0.self_attn", bottleneck_size=2))},
    "architecture": {"backbone": backbone("phi3")},
    "a head of the mean": {
        "head": Head(
            task="text-classification",
            layers=("classifier",),
            shapes={"classifier.weight": (2, D)},
            pooling=Pooling.MEAN,
        )
    },
    "a width that no factor gives": {
        "projection": Projection(kind=ProjectionKind.LPHM, phm_dim=1, phm_rank=1, shared_phm_rule=True, shared_W=True),
        "sites": (Site(id="encoder.0.ffn", bottleneck_size=3),),
    },
}


@pytest.mark.parametrize("changes", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_adapterhub_lacks_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CompacterError) as refused:
        save_adapterhub(adapter_of(config_of(**changes)), tmp_path / "out")
    assert refused.value.code is ErrorCode.E504
    assert not (tmp_path / "out").exists()


def test_an_adapter_without_backbone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompacterError) as refused:
        save_adapterhub(adapter_of(config_of(backbone=None)), tmp_path / "out")
    assert refused.value.code is ErrorCode.E001


@pytest.mark.parametrize("attach", HUB_ATTACHES)
def test_only_the_input_counts_before_the_norm(attach: Attach, tmp_path: Path) -> None:
    pre = replace(backbone(), norm_style=NormStyle.PRE)
    save_adapterhub(adapter_of(config_of(attach=attach, backbone=pre)), tmp_path / "out")
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())["config"]
    assert written["residual_before_ln"] != "post_add"  # which AdapterHub cannot compute there
    assert from_adapterhub(tmp_path / "out").adapter.config.attach.input is attach.input


def test_norms_go_beside_the_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "encoder.layer.0.output.LayerNorm.weight"
    config = config_of(overrides=(Override(name=name, kind=OverrideKind.NORM),))
    plain = adapter_of(config)
    gain = np.arange(D, dtype=np.float32)
    file = tmp_path / "adapter.safetensors"
    save_adapter(replace(plain, tensors={**plain.tensors, f"override.{name}": gain}), file)
    command = ["export-adapter", "adapterhub", str(file), "-o", str(tmp_path / "out")]
    assert main(command) == 2
    assert "E504" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, "--norms-beside", "--json"]) == 0
    assert "norms.safetensors" in json.loads(capsys.readouterr().out)["notes"][-1]
    written = load_file(tmp_path / "out" / "norms.safetensors")
    assert {key: value.tolist() for key, value in written.items()} == {f"bert.{name}": gain.tolist()}
    assert main([*command, "--norms-beside"]) == 2  # what is there is not overwritten
    assert "E006" in capsys.readouterr().err


@pytest.mark.parametrize("model_type", PLACES)
def test_places_are_sites_of_the_binding(model_type: str) -> None:
    assert model_type in known_model_types()
    binding = load_binding(model_type)
    sites = {(stack, sublayer) for stack, bound in binding.layouts[0].items() for sublayer in bound.sublayers}
    assert set(PLACES[model_type]) == sites
    assert {sublayer for _, sublayer in sites} <= set(Sublayer)


def test_the_head_may_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "adapter.safetensors"
    plain = adapter_of(config_of(**IMPOSSIBLE["a head of the mean"]))
    weight = np.ones((2, D), dtype=np.float32)
    save_adapter(replace(plain, tensors={**plain.tensors, "head.classifier.weight": weight}), file)
    command = ["export-adapter", "adapterhub", str(file), "-o", str(tmp_path / "out")]
    assert main(command) == 2
    assert "--without-head" in capsys.readouterr().err
    assert main([*command, "--without-head"]) == 0
    assert from_adapterhub(tmp_path / "out").adapter.config.head is None
