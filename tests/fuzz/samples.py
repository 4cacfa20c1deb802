"""Valid adapters of every kind to start from, the seeds made of them, and the words of the format."""

import json
from dataclasses import replace
from functools import cache
from typing import Final

from compacter_core.adapter import Adapter, DType
from compacter_core.config import ATTACH_PRESETS, AdapterConfig, Head, Override, Projection, Site
from compacter_core.format.config_json import config_to_json
from compacter_core.format.writer import adapter_bytes
from compacter_core.vocabulary import Activation, OverrideKind, ProjectionKind, ScalingKind
from tests.format.builders import BACKBONE, CONFIG, join, make_adapter, split

SMALLEST: Final = AdapterConfig(
    method="m",
    name="n",
    hidden_size=2,
    projection=Projection(kind=ProjectionKind.DENSE),
    sites=(Site(id="decoder.0.ffn", bottleneck_size=1),),
    bias_down=False,
    bias_up=False,
)

_CONFIGS: Final = (
    CONFIG,
    SMALLEST,
    replace(SMALLEST, projection=Projection(kind=ProjectionKind.PHM, phm_dim=1), scaling=ScalingKind.CHANNEL),
    replace(
        SMALLEST,
        projection=Projection(kind=ProjectionKind.LOW_RANK, phm_rank=2, shared_W=True),
        scaling=ScalingKind.LEARNED,
        non_linearity=Activation.IDENTITY,
        bias_up=True,
    ),
    replace(
        CONFIG,
        projection=Projection(kind=ProjectionKind.LPHM, phm_dim=2, phm_rank=1, factorized_phm_rule=True),
        attach=ATTACH_PRESETS["adapter_plus"],
        overrides=(Override(name="classifier.bias", kind=OverrideKind.BIAS),),
        head=Head(task="t", layers=("classifier",), shapes={"classifier.weight": (3, 8)}, pooler="pooler.dense"),
        backbone=replace(BACKBONE, norms=()),
        extensions={"tool": {"must_understand": False}},
        training={},
        scaling=-0.5,
    ),
)


@cache
def adapters() -> tuple[Adapter, ...]:
    """One adapter for each configuration, of different types; with sketches where it has no pooler."""
    types = (DType.F32, DType.F16, DType.BF16, DType.F64, DType.F16)
    made = (make_adapter(config, dtype=dtype) for config, dtype in zip(_CONFIGS, types, strict=True))
    return tuple(replace(adapter, sketches={}) if i else adapter for i, adapter in enumerate(made))


@cache
def files() -> tuple[bytes, ...]:
    """The canonical files of `adapters`."""
    return tuple(map(adapter_bytes, adapters()))


@cache
def configs() -> tuple[str, ...]:
    """The canonical configurations of `adapters`."""
    return tuple(config_to_json(adapter.config) for adapter in adapters())


def file_seeds() -> list[bytes]:
    """Valid files, and for each rule of the container a file that breaks it."""
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    changes: list[dict[str, object]] = [
        {},
        {"shape": [2**31 - 1] * 4},
        {"shape": [0]},
        {"shape": [1] * 5},
        {"dtype": "I64"},
        {"dtype": {}},
        {"data_offsets": [8, 0]},
        {"data_offsets": [0.0, 8]},
        {"strides": [1]},
    ]
    broken = [join({"a": one | change}, bytes(8)) for change in changes]
    texts = (
        "",
        "{",
        "[]",
        "{}  ",
        '{"a":NaN}',
        '{"a":' + "[" * 17,
        '{"__metadata__":{"k":"1","k":"2"}}',
        '{"__metadata__":{"k":1}}',
        '{"\\u0061":1,"a":2}',
        '{"\\ud800":{}}',
    )
    other = [b"PK\x03\x04", b"\x80\x02}q\x00.", b"\xff" * 8, join({}, length=2**24 + 1)]
    return [*files(), *broken, *(join(text, bytes(8)) for text in texts), *other]


def config_seeds() -> list[bytes]:
    """Valid configurations, and for each of their parts that part alone."""
    parts = [json.dumps({key: value}) for text in configs() for key, value in json.loads(text).items()]
    texts = [*configs(), *parts, '{"spec_version":"2.0"}', '{"a":' + "[" * 17, '{"a":1e999}', '{"a":"\\ud800"}']
    return [text.encode() for text in texts]


@cache
def words() -> tuple[str, ...]:
    """Keys and words of the format, for libFuzzer's dictionary and for edits."""
    found: set[str] = {"__metadata__", "dtype", "shape", "data_offsets", "compacter.", "must_understand", "pooler"}
    found |= {word.value for kind in (DType, Activation, OverrideKind, ProjectionKind, ScalingKind) for word in kind}
    for text in configs():
        _collect(json.loads(text), found)
    for data in files():
        found |= split(data)[0].keys()
    return tuple(sorted(found))


def _collect(value: object, found: set[str]) -> None:
    match value:
        case str():
            found.add(value)
        case dict():
            found.update(value)
            for item in value.values():
                _collect(item, found)
        case list():
            for item in value:
                _collect(item, found)
