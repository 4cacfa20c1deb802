"""Directories as AdapterHub writes them, made by hand: BERT with two layers, d = 8."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from compacter_core.adapter import Array

D, LAYERS, NAME = 8, 2, "a"
OPTIONS: Mapping[str, Any] = {
    "adapter_residual_before_ln": False,
    "cross_adapter": False,
    "dropout": 0.0,
    "factorized_phm_W": True,
    "factorized_phm_rule": False,
    "hypercomplex_nonlinearity": "glorot-uniform",
    "init_weights": "bert",
    "init_weights_seed": None,
    "inv_adapter": None,
    "inv_adapter_reduction_factor": None,
    "is_parallel": False,
    "learn_phm": True,
    "leave_out": [],
    "ln_after": False,
    "ln_before": False,
    "mh_adapter": True,
    "non_linearity": "gelu",
    "original_ln_after": True,
    "original_ln_before": False,
    "output_adapter": True,
    "phm_bias": True,
    "phm_c_init": "normal",
    "phm_dim": 2,
    "phm_init_range": 0.0001,
    "phm_layer": True,
    "phm_rank": 1,
    "reduction_factor": 2,
    "residual_before_ln": True,
    "scaling": 1.0,
    "shared_W_phm": False,
    "shared_phm_rule": True,
    "stochastic_depth": 0.0,
    "use_gating": False,
}
"""What a Compacter adapter is saved with."""


def options(**changes: Any) -> dict[str, Any]:
    return {**OPTIONS, **changes}


def configuration(own: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """`adapter_config.json`."""
    return {
        "config": dict(own),
        "hidden_size": D,
        "model_class": "BertForSequenceClassification",
        "model_name": "/home/somebody/bert",
        "model_type": "bert",
        "name": NAME,
        "version": "adapters.1.3.0",
        **changes,
    }


def tensors(own: Mapping[str, Any], *, k: int = 4, prefix: str = "bert.", name: str = NAME) -> dict[str, Array]:
    """The tensors of an adapter with these options, of random values."""
    generator = np.random.default_rng(3)
    shapes = dict(_shapes(own, k, prefix, name))
    return {key: generator.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}


def _shapes(own: Mapping[str, Any], k: int, prefix: str, name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    n, r = own["phm_dim"], own["phm_rank"]
    shared = f"{prefix}shared_parameters.{name}"
    if own["phm_layer"] and own["shared_phm_rule"]:
        yield from _rule(shared, own, n)
    if own["phm_layer"] and own["shared_W_phm"]:
        for side, (n_in, n_out) in (("down", (D, k)), ("up", (k, D))):
            yield f"{shared}.W_{side}_left", (n, n_in // n, r)
            yield f"{shared}.W_{side}_right", (n, r, n_out // n)
    for layer in range(LAYERS):
        for place, flag in (("attention.output", "mh_adapter"), ("output", "output_adapter")):
            if own[flag] and layer not in own["leave_out"]:
                owner = f"{prefix}encoder.layer.{layer}.{place}.adapters.{name}"
                yield from _projection(f"{owner}.adapter_down.0", own, D, k)
                yield from _projection(f"{owner}.adapter_up", own, k, D)
                if own["scaling"] in ("learned", "channel"):
                    yield f"{owner}.scaling", (1,) if own["scaling"] == "learned" else (D,)


def _projection(at: str, own: Mapping[str, Any], n_in: int, n_out: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    n, r = own["phm_dim"], own["phm_rank"]
    if not own["phm_layer"]:
        yield f"{at}.weight", (n_out, n_in)
        yield f"{at}.bias", (n_out,)
        return
    if not own["shared_phm_rule"]:
        yield from _rule(at, own, n)
    if not own["shared_W_phm"]:
        if own["factorized_phm_W"]:
            yield f"{at}.W_left", (n, n_in // n, r)
            yield f"{at}.W_right", (n, r, n_out // n)
        else:
            yield f"{at}.W", (n, n_in // n, n_out // n)
    if own["phm_bias"]:
        yield f"{at}.b", (n_out,)


def _rule(at: str, own: Mapping[str, Any], n: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    if own["factorized_phm_rule"]:
        yield f"{at}.phm_rule_left", (n, n, 1)
        yield f"{at}.phm_rule_right", (n, 1, n)
    else:
        yield f"{at}.phm_rule", (n, n, n)


def write(
    folder: Path,
    own: Mapping[str, Any] | None = None,
    state: Mapping[str, Array] | None = None,
    **changes: Any,
) -> Path:
    """A directory with these options, these tensors, and changes to the configuration around them."""
    own = OPTIONS if own is None else own
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(configuration(own, **changes)))
    save_file(dict(tensors(own) if state is None else state), folder / "adapter.safetensors")
    return folder


def layer_delta(own: Mapping[str, Any], state: Mapping[str, Array], owner: str, x: Array) -> Array:
    """What AdapterHub computes of x [T, d] at a module, from its tensors, in float64; x W + b before the activation."""
    down = _apply(own, state, owner, "down", x)
    z = np.maximum(down, 0.0)
    scaling = own["scaling"]
    factor = state[f"{owner}.scaling"].astype(np.float64) if isinstance(scaling, str) else scaling
    result: Array = factor * _apply(own, state, owner, "up", z)
    return result


def _apply(own: Mapping[str, Any], state: Mapping[str, Array], owner: str, side: str, x: Array) -> Array:
    at = {"down": "adapter_down.0", "up": "adapter_up"}[side]
    wide = {key: value.astype(np.float64) for key, value in state.items()}
    if not own["phm_layer"]:
        result: Array = x @ wide[f"{owner}.{at}.weight"].T + wide[f"{owner}.{at}.bias"]
        return result
    shared = f"{owner.partition('encoder.')[0]}shared_parameters.{owner.rpartition('.')[2]}"
    rule_at = shared if own["shared_phm_rule"] else f"{owner}.{at}"
    if own["factorized_phm_rule"]:
        rule = wide[f"{rule_at}.phm_rule_left"] @ wide[f"{rule_at}.phm_rule_right"]
    else:
        rule = wide[f"{rule_at}.phm_rule"]
    if own["shared_W_phm"]:
        W = wide[f"{shared}.W_{side}_left"] @ wide[f"{shared}.W_{side}_right"]
    elif own["factorized_phm_W"]:
        W = wide[f"{owner}.{at}.W_left"] @ wide[f"{owner}.{at}.W_right"]
    else:
        W = wide[f"{owner}.{at}.W"]
    H = sum(np.kron(A, B) for A, B in zip(rule, W, strict=True))
    return x @ H + (wide[f"{owner}.{at}.b"] if own["phm_bias"] else 0.0)
