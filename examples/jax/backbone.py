"""Does a backbone fit an adapter? Structure, then sketches, then overrides (SKT, CNF-6)."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.jax.reader import SKETCH_SIZE, AdapterFile
from examples.jax.rejection import Rejection

_MASK = 2**64 - 1
_RELATIVE, _ABSOLUTE = 2.0**-8, 2.0**-24

Array = NDArray[Any]


def match(adapter: AdapterFile, backbone: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
    """Refuse a backbone that the adapter was not trained on.

    Raises:
        Rejection: E211, E401 to E405.
    """
    config = adapter.config
    expected = config.backbone
    if expected is not None:
        for key, code in (
            ("model_type", "E401"),
            ("hidden_size", "E401"),
            ("num_layers", "E401"),
            ("norm_style", "E402"),
        ):
            if expected[key] != backbone[key]:
                raise Rejection(code, key)
    if config.hidden_size != backbone["hidden_size"]:
        raise Rejection("E401", "hidden_size")
    if any(site.layer >= backbone["num_layers"].get(site.stack, 0) for site in config.sites):
        raise Rejection("E211", "a site outside the backbone")
    tensors = adapter.tensors
    for name, array in weights.items():
        sketch = tensors.get(f"sketch.{name}")
        if sketch is not None and not _is_sketched(sketch, array):
            raise Rejection("E403", name)
    for name, kind in config.overrides:
        if name not in weights or weights[name].shape != tensors[f"override.{name}"].shape:
            raise Rejection("E404", name)
        if kind == "head":
            raise Rejection("E405", name)


def _is_sketched(sketch: Array, array: Array) -> bool:
    sampled = array.reshape(-1)[sketch_positions(array.shape)].astype(np.float32)
    if sampled.shape != sketch.shape:
        return False
    return bool(np.all(np.abs(sampled - sketch) <= _RELATIVE * np.abs(sketch) + _ABSOLUTE))


def sketch_positions(shape: tuple[int, ...]) -> list[int]:
    """Row-major positions of the sketched elements (SKT): all, or 256 drawn by SplitMix64 from the shape, sorted."""
    size = prod(shape)
    if size <= SKETCH_SIZE:
        return list(range(size))
    state = 0
    for dimension in shape:
        state = ((state << 32) + dimension) & _MASK
    taken: set[int] = set()
    while len(taken) < SKETCH_SIZE:
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        taken.add((z ^ (z >> 31)) % size)
    return sorted(taken)
