"""A configuration of this format as AdapterHub's options."""

from collections.abc import Mapping
from math import nextafter
from typing import Any, Final

from compacter_core.config import ATTACH_PRESETS, AdapterConfig, Attach, Backbone
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.adapterhub.options import ReductionFactor
from compacter_core.importers.adapterhub.placement import SEQUENTIAL
from compacter_core.importers.adapterhub.places import PLACES, global_layer
from compacter_core.vocabulary import Activation, Input, NormStyle, ProjectionKind, ScalingKind, Sublayer

_ACTIVATIONS: Final = {
    Activation.GELU: "gelu",
    Activation.GELU_NEW: "gelu_new",
    Activation.RELU: "relu",
    Activation.SILU: "swish",
    Activation.TANH: "tanh",
    Activation.IDENTITY: "linear",
}

_TRAINING_DEFAULTS: Final[Mapping[str, Any]] = {
    "dropout": 0.0,
    "hypercomplex_nonlinearity": "glorot-uniform",
    "init_weights": "bert",
    "init_weights_seed": None,
    "learn_phm": True,
    "phm_c_init": "normal",
    "phm_init_range": 0.0001,
}

_NEVER: Final[Mapping[str, Any]] = {
    "adapter_residual_before_ln": False,
    "inv_adapter": None,
    "inv_adapter_reduction_factor": None,
    "ln_after": False,
    "ln_before": False,
    "stochastic_depth": 0.0,
    "use_gating": False,
}


def options_of(config: AdapterConfig, backbone: Backbone) -> dict[str, Any]:
    """The `config` of an `adapter_config.json`.

    Raises:
        CompacterError: E504 for what that library cannot express.
    """
    if backbone.model_type not in PLACES:
        raise _impossible("an adapter for this architecture", backbone.model_type, ", ".join(sorted(PLACES)))
    scaling = config.scaling
    return {
        **_sites(config, backbone),
        **_placement(config, backbone),
        **_projection(config),
        "non_linearity": _ACTIVATIONS[config.non_linearity],
        "scaling": scaling.value if isinstance(scaling, ScalingKind) else float(scaling),
        **_training(config),
        **_NEVER,
    }


def _projection(config: AdapterConfig) -> dict[str, Any]:
    projection = config.projection
    if projection.kind is ProjectionKind.LOW_RANK:
        raise _impossible(
            "low-rank projections without Kronecker products", projection.kind.value, "dense, phm or lphm"
        )
    if projection.shared_W and projection.kind is not ProjectionKind.LPHM:
        raise _impossible("shared weights that are not factored", projection.kind.value, "shared_W with lphm")
    has_rule = projection.kind.has_rule
    return {
        "phm_layer": has_rule,
        "phm_dim": projection.phm_dim or 4,
        "phm_rank": projection.phm_rank or 1,
        "phm_bias": config.bias_down or config.bias_up or not has_rule,
        "factorized_phm_W": projection.kind is ProjectionKind.LPHM or not has_rule,
        "factorized_phm_rule": projection.factorized_phm_rule,
        "shared_phm_rule": projection.shared_phm_rule or not has_rule,
        "shared_W_phm": projection.shared_W,
    }


def _placement(config: AdapterConfig, backbone: Backbone) -> dict[str, Any]:
    placements = {_as_there(config.attach_of(site), backbone) for site in config.sites}
    if len(placements) > 1:
        raise _impossible("sites that are placed differently", str(placements), "one placement for all sites")
    (attach,) = placements
    if attach == ATTACH_PRESETS["parallel"]:
        return _flags(True, (False, True, True))
    for key, known in SEQUENTIAL.items():
        if known == attach:
            return _flags(False, key)
    raise _impossible("this placement", str(attach), " or ".join(map(str, SEQUENTIAL.values())))


def _as_there(attach: Attach, backbone: Backbone) -> Attach:
    """The placement that AdapterHub has, if there is one.

    On a pre-norm model only the input matters: the result is r + h + D(x) in any case (PLC-8). AdapterHub cannot
    compute its own "post_add" there.
    """
    if backbone.norm_style is NormStyle.POST or attach in ATTACH_PRESETS.values():
        return attach
    names = {Input.SUBLAYER_OUTPUT: "houlsby", Input.NORMED_SUM: "pfeiffer", Input.RESIDUAL: "parallel"}
    return ATTACH_PRESETS[names[attach.input]]


def _flags(is_parallel: bool, key: tuple[bool, bool, bool | str]) -> dict[str, Any]:
    names = ("original_ln_before", "original_ln_after", "residual_before_ln")
    return {"is_parallel": is_parallel, **dict(zip(names, key, strict=True))}


def _sites(config: AdapterConfig, backbone: Backbone) -> dict[str, Any]:
    """The flags, the layers left out, and the reduction factors, by the layer's number through both stacks."""
    present = {site.id: site.bottleneck_size for site in config.sites}
    wanted = {site.sublayer for site in config.sites}
    widths: dict[int, set[int | None]] = {}
    for stack, sublayer in PLACES[backbone.model_type]:
        for layer in range(backbone.num_layers.get(stack, 0) if sublayer in wanted else 0):
            width = present.get(f"{stack}.{layer}.{sublayer}")
            widths.setdefault(global_layer(stack, layer, backbone), set()).add(width)
    mixed = [number for number, found in widths.items() if len(found) > 1]
    if mixed:
        raise _impossible("layers whose sites differ", mixed, "in a layer all sites, with one bottleneck_size, or none")
    by_layer = {number: next(iter(found)) for number, found in widths.items()}
    factors = {number: _factor(config, k) for number, k in by_layer.items() if k is not None}
    distinct = set(factors.values())
    factor: ReductionFactor = distinct.pop() if len(distinct) == 1 else {str(n): f for n, f in factors.items()}
    return {
        "mh_adapter": Sublayer.SELF_ATTN in wanted,
        "cross_adapter": Sublayer.CROSS_ATTN in wanted,
        "output_adapter": Sublayer.FFN in wanted,
        "leave_out": [number for number, k in by_layer.items() if k is None],
        "reduction_factor": factor,
    }


def _factor(config: AdapterConfig, k: int) -> float:
    """A number f with d // f = k, an integer where there is one."""
    d = config.hidden_size
    for factor in (d // k, d / k, nextafter(d / k, 0.0)):
        if factor > 0 and int(d // factor) == k:
            if config.projection.shared_W and not isinstance(factor, int):
                break
            return factor
    raise _impossible("this bottleneck_size", k, f"d // reduction_factor with d = {d}")


def _training(config: AdapterConfig) -> dict[str, Any]:
    """What an import kept of the options that only training needs."""
    kept = config.training.get("adapterhub")
    known = kept if isinstance(kept, Mapping) else {}
    return {name: known.get(name, default) for name, default in _TRAINING_DEFAULTS.items()}


def _impossible(what: str, value: object, expected: str) -> CompacterError:
    return CompacterError(ErrorCode.E504, f"AdapterHub does not have {what}", value=value, expected=expected)
