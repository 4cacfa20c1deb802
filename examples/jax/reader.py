"""Adapter files: container, configuration, tensor table and values, checked in this order (FMT, ERR)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.jax.config import Config, check_version, parse_config
from examples.jax.container import Container, Entry, parse
from examples.jax.names import Shape, layout
from examples.jax.rejection import Rejection

MAX_ELEMENTS = 2**28
SKETCH_SIZE = 256
POOLER = "pooler"

_VERSION, _CONFIG = "compacter.spec_version", "compacter.config"
_FORMS = {"W": ("W_left", "W_right"), "phm_rule": ("phm_rule_left", "phm_rule_right")}

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """A checked adapter file."""

    config: Config
    container: Container

    @property
    def tensors(self) -> dict[str, Array]:
        """All tensors, sketches included."""
        return {name: self.container.array(name) for name in self.container.entries}

    def summary(self) -> dict[str, Any]:
        """The answer to `read` (CNF-5)."""
        return {
            "config": self.config.source,
            "tensors": {
                name: {
                    "dtype": entry.dtype,
                    "shape": list(entry.shape),
                    "sha256": hashlib.sha256(self.container.raw(name)).hexdigest(),
                }
                for name, entry in self.container.entries.items()
            },
        }


def read_adapter(data: bytes | mmap) -> AdapterFile:
    """The adapter in a file's bytes.

    Raises:
        Rejection: E1xx, E2xx, E3xx, E401, E404, E405.
    """
    container = parse(data)
    config = _config(container.metadata)
    _check_table(config, container.entries)
    adapter = AdapterFile(config, container)
    _check_values(adapter.tensors)
    return adapter


def _config(metadata: Mapping[str, str]) -> Config:
    if _VERSION not in metadata or _CONFIG not in metadata:
        raise Rejection("E201", "no compacter metadata")
    check_version(metadata[_VERSION])
    if any(key.startswith("compacter.") for key in metadata.keys() - {_VERSION, _CONFIG}):
        raise Rejection("E205", "unknown metadata")
    config = parse_config(metadata[_CONFIG])
    if config.source["spec_version"] != metadata[_VERSION]:
        raise Rejection("E204", "two versions")
    return config


def _check_table(config: Config, entries: Mapping[str, Entry]) -> None:
    if sum(prod(entry.shape) for entry in entries.values()) > MAX_ELEMENTS:
        raise Rejection("E309", "too many elements")
    sketches = {name: entry for name, entry in entries.items() if name.split(".")[0] == "sketch"}
    own = {name: entry for name, entry in entries.items() if name not in sketches}
    _check_forms(own)
    shapes: dict[str, Shape | None] = dict(layout(config))
    if config.head is not None:
        shapes |= {f"head.{name}": shape for name, shape in config.head["shapes"].items()}
    shapes |= {f"override.{name}": None for name, _ in config.overrides}
    _check_names(own, list(shapes))
    for name, shape in shapes.items():
        if shape is not None and own[name].shape != shape:
            raise Rejection("E304", f"shape of {name}")
    for name, kind in config.overrides:
        if kind != "head" and len(own[f"override.{name}"].shape) != 1:
            raise Rejection("E404", f"shape of override {name}")
    _check_sketches(config, sketches)
    if len({entry.dtype for entry in own.values()}) != 1:
        raise Rejection("E305", "several types")


def _check_forms(entries: Mapping[str, Entry]) -> None:
    """A tensor is dense or factored, not both."""
    for name in entries:
        prefix, _, short = name.rpartition(".")
        if name.split(".")[0] in ("shared", "site"):
            for factor in _FORMS.get(short, ()):
                if f"{prefix}.{factor}" in entries:
                    raise Rejection("E308", name)


def _check_names(entries: Mapping[str, Entry], expected: list[str]) -> None:
    for name in expected:
        if name not in entries:
            part, short = name.split(".")[0], name.rpartition(".")[2]
            rule = part in ("shared", "site") and short.startswith("phm_rule")
            raise Rejection("E302" if rule else "E301", f"{name} is missing")
    if entries.keys() - set(expected):
        raise Rejection("E303", "unexpected tensors")


def _check_sketches(config: Config, sketches: Mapping[str, Entry]) -> None:
    """All linears have a weight sketch, or none has; biases may have one."""
    if not sketches:
        return
    linears = [site.id for site in config.sites]
    if config.head is not None and config.head["pooler"] is not None:
        linears.append(POOLER)
    biases = {f"sketch.{linear}.bias" for linear in linears}
    weights = {name: entry for name, entry in sketches.items() if name not in biases}
    _check_names(weights, [f"sketch.{linear}.weight" for linear in linears])
    for name, entry in sketches.items():
        if entry.dtype != "F32":
            raise Rejection("E110", f"type of {name}")
        if name in biases and entry.shape != (min(SKETCH_SIZE, config.hidden_size),):
            raise Rejection("E304", f"shape of {name}")
        if name in weights and (len(entry.shape) != 1 or entry.shape[0] > SKETCH_SIZE):
            raise Rejection("E304", f"shape of {name}")


def _check_values(tensors: Mapping[str, Array]) -> None:
    if not all(np.isfinite(tensor.astype(np.float64)).all() for tensor in tensors.values()):
        raise Rejection("E306", "NaN or infinity")
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        twin = tensors.get(f"head.{rest}")
        if part == "override" and twin is not None and not np.array_equal(tensor, twin):
            raise Rejection("E307", rest)
