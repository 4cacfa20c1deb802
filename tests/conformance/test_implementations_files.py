"""Our implementations on files, counts and initial values: what they answer, and what they refuse."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.config import AdapterConfig, Backbone, Override, Projection, Site
from compacter_core.conformance.implementation import Answer, Done, Rejected, Request, Skipped
from compacter_core.conformance.implementations import NAMES, create
from compacter_core.conformance.tensor_files import read_tensors, write_tensors
from compacter_core.conformance.words import ConformanceClass, Op
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import config_to_json
from compacter_core.format.sketch import bias_name, sketch_bias, sketch_weight, weight_name
from compacter_core.format.writer import adapter_bytes
from compacter_core.layout import adapter_layout, override_names
from compacter_core.vocabulary import NormStyle, OverrideKind, Stack
from tests.conformance.asking import ask

INITIALISING = [name for name in NAMES if ConformanceClass.INITIALISATION in create(name).describe().claims]


@pytest.mark.parametrize("name", INITIALISING)
def test_initialise(name: str, tmp_path: Path) -> None:
    """The same seed gives the same tensors, another seed others; draws differ, and start as the table says."""
    config = two_sites()
    drawn = []
    for index, seed in enumerate((3, 3, 4)):
        folder = tmp_path / str(index)
        folder.mkdir()
        args = {"config": json_of(config), "seed": seed, "draws": 5}
        answer, out = ask(create(name), Op.INITIALISE, folder, args=args)
        assert answer == Done()
        drawn.append({key: tensor.array for key, tensor in read_tensors(out.read_bytes(), "drawn").items()})
    assert {key: array.shape for key, array in drawn[0].items()} == {
        key: (5, *shape) for key, shape in adapter_layout(config).items()
    }
    for key, array in drawn[0].items():
        assert np.array_equal(array, drawn[1][key])
        if key.endswith(".b"):
            assert not array.any()
        else:
            assert not np.array_equal(array, drawn[2][key])
            assert not np.array_equal(array[0], array[1])


@pytest.mark.spec("CNF-5", "CNF-7")
def test_read_and_write_are_inverse(tmp_path: Path) -> None:
    adapter = adapter_of((NORM,))
    data = adapter_bytes(adapter)
    answer, _ = ask(create("reference"), Op.READ, tmp_path, files={"adapter": data})
    assert isinstance(answer, Done)
    tensors: Any = answer.value["tensors"]
    assert answer.value["config"] == json_of(adapter.config)
    assert {key: tuple(entry["shape"]) for key, entry in tensors.items()} == {
        key: array.shape for key, array in {**adapter.tensors, **adapter.sketches}.items()
    }
    for key, entry in tensors.items():
        array = {**adapter.tensors, **adapter.sketches}[key]
        assert entry == {
            "dtype": "F32",
            "shape": list(array.shape),
            "sha256": hashlib.sha256(array.astype("<f4").tobytes()).hexdigest(),
        }
    answer, out = ask(
        create("reference"),
        Op.WRITE,
        tmp_path,
        files={"tensors": write_tensors({**adapter.tensors, **adapter.sketches}, DType.F32)},
        args={"config": json_of(adapter.config), "dtype": "F32"},
    )
    assert answer == Done()
    assert out.read_bytes() == data


def test_count(tmp_path: Path) -> None:
    config = two_sites()
    answer, _ = ask(create("reference"), Op.COUNT, tmp_path, args={"config": json_of(config)})
    assert answer == Done({"parameters": sum(np.prod(shape) for shape in adapter_layout(config).values())})


def test_rejections_carry_the_code(tmp_path: Path) -> None:
    broken = {**json_of(two_sites()), "hidden_size": 9}
    answer, _ = ask(create("reference"), Op.COUNT, tmp_path, args={"config": broken})
    assert answer == Rejected("E207")
    answer, _ = ask(create("reference"), Op.READ, tmp_path, files={"adapter": b"PK\x03\x04"})
    assert answer == Rejected("E112")


def test_profiles(tmp_path: Path) -> None:
    """A copy of the configuration that differs is refused, an equal one is not."""
    adapter = adapter_of((NORM,))
    for change, code in (({}, None), ({"method": "other"}, "E206")):
        profile = json.dumps({**json_of(adapter.config), **change}).encode()
        files = {"adapter": adapter_bytes(adapter), "profile": profile}
        answer, _ = ask(create("reference"), Op.READ, tmp_path, files=files)
        assert isinstance(answer, Done) if code is None else answer == Rejected(code)


BACKBONE = {"model_type": "bert", "hidden_size": 8, "num_layers": {"encoder": 3}, "norm_style": "post"}
NORM = Override(name="layer.0.norm.weight", kind=OverrideKind.NORM)


@pytest.mark.spec("CNF-6")
@pytest.mark.parametrize(
    ("change", "tensor", "code"),
    [
        ({}, None, None),
        ({"model_type": "roberta"}, None, "E401"),
        ({"hidden_size": 4}, None, "E401"),
        ({"num_layers": {"encoder": 4}}, None, "E401"),
        ({"norm_style": "pre"}, None, "E402"),
        ({}, "encoder.0.ffn.weight", "E403"),
        ({}, "encoder.0.ffn.bias", "E403"),
    ],
)
def test_match(change: dict[str, object], tensor: str | None, code: str | None, tmp_path: Path) -> None:
    """One thing after the other is not as the adapter wants it."""
    weights = backbone_tensors()
    if tensor is not None:
        weights[tensor] = -weights[tensor]
    assert matched(tmp_path, adapter_of((NORM,), norms=("layer.0.norm",)), weights, change) == expected(code)


@pytest.mark.spec("CNF-6")
@pytest.mark.parametrize(
    ("name", "kind", "norms", "code"),
    [
        ("layer.0.norm.weight", OverrideKind.NORM, ("layer.0.norm",), None),
        ("layer.0.norm.weight", OverrideKind.NORM, (), None),
        ("layer.0.dense.bias", OverrideKind.BIAS, ("layer.0.norm",), None),
        ("layer.7.norm.weight", OverrideKind.NORM, ("layer.7.norm",), "E404"),
        ("layer.0.short.bias", OverrideKind.BIAS, (), "E404"),
        ("layer.0.norm.weight", OverrideKind.HEAD, (), "E405"),
    ],
)
def test_match_of_overrides(
    name: str, kind: OverrideKind, norms: tuple[str, ...], code: str | None, tmp_path: Path
) -> None:
    weights = {**backbone_tensors(), "layer.0.dense.bias": np.ones(8, np.float32)}
    weights["layer.0.short.bias"] = np.ones(7, np.float32)
    adapter = adapter_of((Override(name=name, kind=kind),), norms=norms)
    assert matched(tmp_path, adapter, weights) == expected(code)


@pytest.mark.spec("CNF-6", "SKT-12")
def test_match_without_a_described_backbone(tmp_path: Path) -> None:
    """What the file does not say is not compared, but its sites have to be there and its vectors have to fit."""
    adapter = replace(adapter_of(), config=two_sites())
    assert matched(tmp_path, adapter, backbone_tensors(), {"model_type": "gpt", "norm_style": "pre"}) == Done()
    assert matched(tmp_path, adapter, backbone_tensors(), {"num_layers": {"encoder": 1}}) == Rejected("E211")
    assert matched(tmp_path, adapter, backbone_tensors(), {"num_layers": {"decoder": 3}}) == Rejected("E211")
    assert matched(tmp_path, adapter, backbone_tensors(), {"hidden_size": 4}) == Rejected("E401")


def expected(code: str | None) -> Answer:
    return Done() if code is None else Rejected(code)


def matched(
    folder: Path, adapter: Adapter, weights: Mapping[str, Array], change: Mapping[str, object] | None = None
) -> Answer:
    """What comes of comparing the adapter with these weights."""
    files = {"adapter": adapter_bytes(adapter), "weights": write_tensors(weights, DType.F32)}
    args = {"backbone": {**BACKBONE, **(change or {})}}
    return ask(create("reference"), Op.MATCH, folder, files=files, args=args)[0]


def backbone_tensors() -> dict[str, Array]:
    """Linears of the two sites and a norm."""
    generator = np.random.default_rng(5)
    shapes = {"weight": (6, 8), "bias": (8,)}
    linears = {f"encoder.{layer}.ffn.{part}": shape for layer in range(2) for part, shape in shapes.items()}
    shapes = {**linears, "layer.0.norm.weight": (8,)}
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def adapter_of(overrides: tuple[Override, ...] = (), norms: tuple[str, ...] = ()) -> Adapter:
    """Two sites trained on `backbone_tensors`, with all sketches."""
    backbone = Backbone(
        model_type="bert", hidden_size=8, num_layers={Stack.ENCODER: 3}, norm_style=NormStyle.POST, norms=norms
    )
    config = replace(two_sites(), backbone=backbone, overrides=overrides)
    generator = np.random.default_rng(6)
    shapes = {**adapter_layout(config), **dict.fromkeys(override_names(config), (8,))}
    weights, sketches = backbone_tensors(), {}
    for site in config.sites:
        sketches[weight_name(site.id)] = sketch_weight(weights[f"{site.id}.weight"])
        sketches[bias_name(site.id)] = sketch_bias(weights[f"{site.id}.bias"])
    return Adapter(
        config=config,
        tensors={name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()},
        sketches=sketches,
    )


def test_unknown_names_and_operations() -> None:
    with pytest.raises(CompacterError) as caught:
        create("tensorflow")
    assert caught.value.code is ErrorCode.E001
    request = Request(case="by-hand", op=Op.EXTRACT, dtype=None, files={}, args={}, out=Path("none"))
    assert isinstance(create("reference").run(request), Skipped)


def two_sites() -> AdapterConfig:
    """Compacter at two sites, without a backbone."""
    return AdapterConfig(
        method="test",
        name="a",
        hidden_size=8,
        projection=Projection.compacter(phm_dim=2),
        sites=tuple(Site(id=f"encoder.{layer}.ffn", bottleneck_size=4) for layer in range(2)),
    )


def json_of(config: AdapterConfig) -> dict[str, object]:
    """The configuration as a JSON value."""
    value: dict[str, object] = json.loads(config_to_json(config))
    return value
