"""Adapters to write, and files taken apart and put together by hand, without the code under test."""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pytest

from compacter_core.adapter import Adapter, DType
from compacter_core.config import AdapterConfig, Backbone, Head, Override, Projection, Site, SiteModules
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.codec import round_to
from compacter_core.format.sketch import bias_name, sketch_bias, sketch_weight, weight_name
from compacter_core.layout import adapter_layout, head_layout
from compacter_core.vocabulary import NormStyle, OverrideKind, Stack

NORM = "encoder.layer.0.output.LayerNorm"

BACKBONE = Backbone(
    model_type="bert",
    hidden_size=8,
    num_layers={Stack.ENCODER: 2},
    norm_style=NormStyle.POST,
    id="someone/tiny-bert",
    modules={"encoder.0.ffn": SiteModules(linear="encoder.layer.0.output.dense", norm=NORM)},
    norms=("embeddings.LayerNorm", NORM),
)

CONFIG = AdapterConfig(
    method="compacter",
    name="tiny",
    hidden_size=8,
    projection=Projection.compacter(phm_dim=2),
    sites=(Site(id="encoder.0.ffn", bottleneck_size=4), Site(id="encoder.1.ffn", bottleneck_size=2)),
    backbone=BACKBONE,
    overrides=(Override(name=f"{NORM}.weight", kind=OverrideKind.NORM),),
    head=Head(
        task="text-classification",
        layers=("classifier",),
        shapes={"classifier.weight": (3, 8), "classifier.bias": (3,)},
        labels=("no", "maybe", "größer"),
    ),
    training={"phm_init_range": 1e-4, "seeds": [0, 1]},
)


def make_adapter(config: AdapterConfig = CONFIG, *, dtype: DType = DType.F32, seed: int = 0) -> Adapter:
    """An adapter with random tensors for `config`, and sketches of random linears."""
    generator = np.random.default_rng(seed)
    shapes = adapter_layout(config) | head_layout(config)
    shapes |= {f"override.{override.name}": (config.hidden_size,) for override in config.overrides}
    sketches = {}
    for site in config.sites:
        sketches[weight_name(site.id)] = sketch_weight(generator.standard_normal((40, config.hidden_size)))
        sketches[bias_name(site.id)] = sketch_bias(generator.standard_normal(config.hidden_size))
    return Adapter(
        config=config,
        tensors={name: round_to(generator.standard_normal(shape), dtype) for name, shape in shapes.items()},
        sketches=sketches,
        dtype=dtype,
    )


def with_config(**changes: Any) -> AdapterConfig:
    """`CONFIG` with some fields replaced."""
    return replace(CONFIG, **changes)


@dataclass
class RawTensor:
    dtype: str
    shape: list[Any]
    data: bytes


@dataclass
class RawFile:
    """A safetensors file as its parts."""

    metadata: dict[str, Any]
    tensors: dict[str, RawTensor]

    @classmethod
    def take_apart(cls, data: bytes) -> Self:
        header, body = split(data)
        metadata = header.pop("__metadata__", {})
        tensors = {
            name: RawTensor(entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])])
            for name, entry in header.items()
        }
        return cls(metadata, tensors)

    @property
    def config(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.metadata["compacter.config"])
        return value

    @config.setter
    def config(self, value: dict[str, Any]) -> None:
        self.metadata["compacter.config"] = json.dumps(value)

    def put_together(self) -> bytes:
        header: dict[str, Any] = {"__metadata__": self.metadata}
        body = b""
        for name, tensor in self.tensors.items():
            offsets = [len(body), len(body) + len(tensor.data)]
            header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
            body += tensor.data
        return join(header, body)


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and body of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: dict[str, Any] | str | bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A file of a header, given as a value or as text, and a body; `length` lies about the header's length."""
    text = header if isinstance(header, str | bytes) else json.dumps(header)
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + body


@contextmanager
def rejected(code: ErrorCode) -> Iterator[None]:
    """The block must end with a `CompacterError` of that code, whose text fits one short line."""
    with pytest.raises(CompacterError) as caught:
        yield
    assert caught.value.code is code, f"got {caught.value}, expected {code.name}"
    assert str(caught.value).startswith(f"{code.name}: ")
    assert "\n" not in str(caught.value)
