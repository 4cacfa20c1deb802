"""Files made to exhaust memory or time, each with the number of tensors it declares and the code that refuses it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from compacter_core.adapter import Adapter, DType
from compacter_core.config import AdapterConfig, Projection, Site
from compacter_core.errors import ErrorCode
from compacter_core.format.container import MAX_HEADER, MAX_TENSORS
from compacter_core.format.writer import adapter_bytes
from compacter_core.layout import adapter_layout
from compacter_core.vocabulary import ProjectionKind
from tests.format.builders import RawFile, join, make_adapter

WIDE = "\U0001f600"
"""One such character makes Python hold a whole string in four bytes a character."""

ROOM = MAX_HEADER - 300


def metadata(texts: Mapping[str, str]) -> bytes:
    """A file that has metadata and nothing else."""
    return join(json.dumps({"__metadata__": texts}, ensure_ascii=False))


def many_tensors(count: int, name: str = "t{}") -> bytes:
    """A file of scalars of type F16."""
    entries = {name.format(i): {"dtype": "F16", "shape": [], "data_offsets": [2 * i, 2 * i + 2]} for i in range(count)}
    return join(json.dumps(entries, separators=(",", ":")), bytes(2 * count))


def with_config(**changes: Any) -> bytes:
    """A valid file with some keys of its configuration replaced, the JSON being as short as can be."""
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    raw.metadata["compacter.config"] = json.dumps(raw.config | changes, separators=(",", ":"), ensure_ascii=False)
    return raw.put_together()


def plain(sites: int, hidden_size: int, bottleneck_size: int, dtype: DType = DType.F32) -> Adapter:
    """A dense adapter of ones."""
    config = AdapterConfig(
        method="m",
        name="n",
        hidden_size=hidden_size,
        projection=Projection(kind=ProjectionKind.DENSE),
        sites=tuple(Site(id=f"encoder.{i}.ffn", bottleneck_size=bottleneck_size) for i in range(sites)),
    )
    tensors = {name: np.ones(shape, dtype=dtype.memory) for name, shape in adapter_layout(config).items()}
    return Adapter(config=config, tensors=tensors, dtype=dtype)


def _shared(sites: int) -> bytes:
    """Thousands of sites that share all their tensors, so that a small file with few tensors may claim them."""
    adapter = plain(1, 1, 1)
    config = replace(
        adapter.config,
        projection=Projection(kind=ProjectionKind.DENSE, shared_W=True),
        sites=tuple(Site(id=f"encoder.{i}.ffn", bottleneck_size=1) for i in range(sites)),
        bias_down=False,
        bias_up=False,
    )
    one = np.ones((1, 1), dtype=np.float32)
    return adapter_bytes(Adapter(config=config, tensors={"shared.down.W": one, "shared.up.W": one}))


def _unknown_tensors() -> bytes:
    raw = RawFile.take_apart(adapter_bytes(plain(1, 1, 1)))
    header: dict[str, Any] = {"__metadata__": raw.metadata}
    for i, name in enumerate([*raw.tensors, *(f"t{i}" for i in range(MAX_TENSORS - len(raw.tensors)))]):
        header[name] = {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}
    return join(header, bytes(4 * MAX_TENSORS))


def _sketches() -> bytes:
    """Many sites, and sketches of none of them."""
    adapter = RawFile.take_apart(_shared(_MANY))
    header: dict[str, Any] = {"__metadata__": adapter.metadata}
    for i, name in enumerate([*adapter.tensors, *(f"sketch.{i}" for i in range(_MANY))]):
        shape = [1, 1] if name in adapter.tensors else [1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [4 * i, 4 * i + 4]}
    return join(header, bytes(4 * (len(header) - 1)))


_MANY = 20_000
_SITES = [{"id": f"encoder.{i}.ffn", "bottleneck_size": 2} for i in range(_MANY)]
_BACKBONE = {"model_type": "b", "hidden_size": 8, "norm_style": "pre", "num_layers": {"encoder": 99_999}}
_ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

Make = Callable[[], bytes]

HEADERS: dict[str, tuple[Make, int, ErrorCode]] = {
    "empty lists": (lambda: join('{"a":[' + "[]," * (ROOM // 3) + "[]]}"), 1, ErrorCode.E111),
    "an entry of empty lists": (lambda: join('{"a":[' + "[]," * 5_000 + "[]]}"), 1, ErrorCode.E111),
    "shape of a million": (lambda: join({"a": _ENTRY | {"shape": [1] * 10**6}}, bytes(8)), 1, ErrorCode.E111),
    "type of a megabyte": (lambda: join({"a": _ENTRY | {"dtype": "F" * 10**6}}, bytes(8)), 1, ErrorCode.E111),
    "digits": (lambda: join('{"a":' + "9" * ROOM + "}"), 1, ErrorCode.E111),
    "200,000 levels": (lambda: join('{"a":' + "[" * 200_000 + "]" * 200_000 + "}"), 1, ErrorCode.E103),
    "200,000 objects": (lambda: join('{"a":' * 200_000 + "0" + "}" * 200_000), 1, ErrorCode.E103),
    "unclosed brackets": (lambda: join('{"a":' + "[" * ROOM), 1, ErrorCode.E103),
    "levels in the metadata": (lambda: join('{"__metadata__":' + '{"a":' * 200_000), 0, ErrorCode.E103),
    "spaces": (lambda: join("{" + " " * ROOM + "}"), 0, ErrorCode.E201),
    "unterminated string": (lambda: join('{"' + '\\"' * (ROOM // 2)), 0, ErrorCode.E103),
    "name of 16 MiB": (lambda: join('{"' + "a" * ROOM + WIDE + '":{}}'), 1, ErrorCode.E108),
    "65,537 tensors": (lambda: many_tensors(MAX_TENSORS + 1), MAX_TENSORS + 1, ErrorCode.E108),
    "long names": (lambda: many_tensors(29_000, "{:0500d}"), 29_000, ErrorCode.E201),
    "unknown tensors": (_unknown_tensors, MAX_TENSORS, ErrorCode.E303),
    "million metadata keys": (lambda: metadata(dict.fromkeys(map(str, range(10**6)), "")), 0, ErrorCode.E102),
    "long metadata keys": (lambda: metadata({f"{i:0500d}{WIDE}": "" for i in range(1_000)}), 0, ErrorCode.E201),
    "metadata key of 16 MiB": (lambda: metadata({"a" * ROOM + WIDE: ""}), 0, ErrorCode.E102),
    "wide metadata": (lambda: metadata({"note": "a" * ROOM + WIDE}), 0, ErrorCode.E201),
    "escaped metadata": (lambda: metadata({"note": "\x01" * (ROOM // 6)}), 0, ErrorCode.E201),
    "wide version": (
        lambda: metadata({"compacter.config": "{}", "compacter.spec_version": "1" * ROOM + WIDE}),
        0,
        ErrorCode.E204,
    ),
    "wide configuration": (
        lambda: metadata({"compacter.config": "1" * ROOM + WIDE, "compacter.spec_version": "1.0"}),
        0,
        ErrorCode.E202,
    ),
    "foreign keys of ours": (
        lambda: metadata(
            {"compacter.config": "", "compacter.spec_version": "1.0"}
            | {f"compacter.{i}": WIDE + "x" * 16_000 for i in range(1_000)}
        ),
        0,
        ErrorCode.E205,
    ),
}

CONFIGS: dict[str, tuple[Make, int, ErrorCode | None]] = {
    "lists up to the limit": (lambda: with_config(training={"a": [[]] * 32_000}), 13, None),
    "lists": (lambda: with_config(training={"a": [[]] * 340_000}), 13, ErrorCode.E202),
    "objects": (lambda: with_config(training={"a": [{"a": i} for i in range(32_000)]}), 13, None),
    "numbers": (lambda: with_config(training={"a": [*range(10**5)]}), 13, ErrorCode.E202),
    "wide strings": (lambda: with_config(training={"a": [f"{WIDE}{i}" for i in range(60_000)]}), 13, None),
    "wide string": (lambda: with_config(training={"a": WIDE + "a" * 1_040_000}), 13, None),
    "key of a megabyte": (lambda: with_config(**{"a" * 1_000_000: 1}), 13, ErrorCode.E205),
    "extensions": (
        lambda: with_config(extensions={f"e{i}": {"must_understand": False} for i in range(20_000)}),
        13,
        None,
    ),
    "sites without tensors": (lambda: with_config(sites=_SITES, backbone=_BACKBONE), 13, ErrorCode.E301),
    "sites that share all": (lambda: _shared(_MANY), 2, None),
    "sketches of biases": (_sketches, _MANY + 2, ErrorCode.E301),
    "overrides times norms": (
        lambda: with_config(
            overrides=[{"name": f"norm.last.{i}", "kind": "norm"} for i in range(11_000)],
            backbone=_BACKBONE | {"norms": [*(f"norm.{i:04}" for i in range(31_000)), "norm.last"]},
        ),
        13,
        ErrorCode.E301,
    ),
    "layers of a head": (
        lambda: with_config(
            head={
                "task": "t",
                "layers": [str(i) for i in range(12_000)],
                "shapes": {f"{i}.weight": [1] for i in range(12_000)},
            }
        ),
        13,
        ErrorCode.E301,
    ),
}
