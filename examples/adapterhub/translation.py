"""Our configuration in AdapterHub's words, or the reason why it has none.

With N the norm after the residual sum, AdapterHub's `Adapter` computes, in terms of its options,

    x       N(r + h) if original_ln_before, else h
    skip    h if residual_before_ln is True; r + h if "post_add" (with original_ln_before); x if False
    result  N(r + o) if original_ln_after, else o

and `ParallelAdapter` reads r and adds to h.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from adapters import BnConfig

from compacter_core.config import AdapterConfig, Attach
from compacter_core.layout import Side
from compacter_core.vocabulary import Activation, Input, ProjectionKind, ScalingKind, Skip

ACTIVATIONS: Final[Mapping[Activation, str]] = MappingProxyType(
    {**{activation: activation.value for activation in Activation}, Activation.IDENTITY: "linear"}
)

PLACEMENTS: Final[Mapping[Attach, Mapping[str, Any]]] = MappingProxyType(
    {
        Attach(): {"original_ln_before": False, "original_ln_after": True, "residual_before_ln": True},
        Attach(input=Input.NORMED_SUM): {
            "original_ln_before": True,
            "original_ln_after": True,
            "residual_before_ln": True,
        },
        Attach(input=Input.NORMED_SUM, skip=Skip.RESIDUAL_SUM, post=False): {
            "original_ln_before": True,
            "original_ln_after": False,
            "residual_before_ln": "post_add",
        },
        Attach(input=Input.NORMED_SUM, skip=Skip.NORMED_SUM, post=False): {
            "original_ln_before": True,
            "original_ln_after": False,
            "residual_before_ln": False,
        },
        Attach(input=Input.RESIDUAL): {"is_parallel": True, "original_ln_after": True},
    }
)
"""The placements that it has."""


def why_not(config: AdapterConfig) -> str | None:
    """Why AdapterHub cannot express the adapter, wherever it is placed; None if it can.

    Its dense layers always have biases, and its PHM layers both or none. An absent bias is not among the reasons: it is
    one of zeros, with which AdapterHub starts.
    """
    projection, has_rule = config.projection, config.projection.kind.has_rule
    if projection.kind is ProjectionKind.LOW_RANK:
        return "AdapterHub factors weights only inside PHM layers"
    if projection.shared_W and not has_rule:
        return "AdapterHub shares weights of sites only in PHM layers"
    if projection.shared_W and config.hidden_size % config.sites[0].bottleneck_size:
        return "AdapterHub computes the size of shared weights with an integer reduction factor"
    return None


def why_not_placed(attach: Attach) -> str | None:
    """Why AdapterHub does not have a placement; None if it has."""
    if attach in PLACEMENTS:
        return None
    if attach.input is Input.RESIDUAL:
        return "AdapterHub's parallel adapters add to the sublayer's output alone"
    return "AdapterHub's adapters that read the sublayer's output also add to it"


def bn_config(config: AdapterConfig, attach: Attach) -> BnConfig:
    """AdapterHub's configuration of an adapter whose site number i sits in layer number i.

    Args:
        config: an adapter that `why_not` has nothing against.
        attach: one of `PLACEMENTS`.
    """
    projection, d = config.projection, config.hidden_size
    phm = {
        "phm_layer": True,
        "phm_dim": projection.phm_dim,
        "phm_rank": projection.phm_rank or 1,
        "phm_bias": config.bias_down or config.bias_up,
        "shared_phm_rule": projection.shared_phm_rule,
        "factorized_phm_rule": projection.factorized_phm_rule,
        "factorized_phm_W": projection.kind is ProjectionKind.LPHM,
        "shared_W_phm": projection.shared_W,
    }
    return BnConfig(
        mh_adapter=True,
        output_adapter=True,
        non_linearity=ACTIVATIONS[config.non_linearity],
        reduction_factor=d // config.sites[0].bottleneck_size if projection.shared_W else _reduction_factors(config),
        scaling=config.scaling.value if isinstance(config.scaling, ScalingKind) else config.scaling,
        **PLACEMENTS[attach],
        **(phm if projection.kind.has_rule else {}),
    )


def shared_key(side: Side, short: str) -> str:
    """Name among AdapterHub's shared parameters of one of ours, by its short name."""
    return short.replace("W", f"W_{side.value}", 1) if short.startswith("W") else short


def _reduction_factors(config: AdapterConfig) -> dict[str, float]:
    """By layer. AdapterHub takes k = floor(d / factor); half a unit keeps the quotient away from integers."""
    return {str(index): config.hidden_size / (site.bottleneck_size + 0.5) for index, site in enumerate(config.sites)}


def placement_of(options: BnConfig) -> Attach | None:
    """Our name for where AdapterHub's options put an adapter; None if we have none."""
    for attach, wanted in PLACEMENTS.items():
        if all(options[key] == value for key, value in wanted.items()) and options["is_parallel"] == (
            attach.input is Input.RESIDUAL
        ):
            return attach
    return None
