"""Cases of `initialise`: the distribution of every tensor, from the table of the specification."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from compacter_core.config import AdapterConfig, Projection
from compacter_core.conformance.case import Case, Expectation
from compacter_core.conformance.generate import statements
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import FFN, Choice, Rule, Scale, Sizes, kinds_and_rules
from compacter_core.conformance.words import Op
from compacter_core.format.config_json import config_to_json
from compacter_core.layout import Shape, adapter_layout
from compacter_core.vocabulary import ProjectionKind

_DRAWS: Final = 200
_SEED: Final = 20_210_607
_SIZES: Final = Sizes(d=32, k=16, n=4, r=2)
"""Tensors of 32 elements and more: 200 draws of them tell a uniform distribution from a normal one."""

_SHARED_RULE_STD: Final = 1e-4
_OWN_RULE_STD: Final = 0.01
_DENSE_STD: Final = 0.01
_CONSTANTS: Final = {"b": 0.0, "scaling": 1.0}


def add_initialise_cases(builder: Builder) -> None:
    """All of them."""
    for kind, rule in kinds_and_rules():
        choice = Choice(kind=kind, rule=rule)
        _add(builder, f"initialise/{kind.value}/{rule.value}", choice.config(_SIZES, sites=(FFN,)))
    for kind, rule, scale in (
        (ProjectionKind.LPHM, Rule.SHARED, Scale.LEARNED),
        (ProjectionKind.LOW_RANK, Rule.NONE, Scale.CHANNEL),
    ):
        choice = Choice(kind=kind, rule=rule, scale=scale, shared_W=True)
        sizes = replace(_SIZES, r=3)
        _add(builder, f"initialise/{kind.value}/{scale.value}.shared-w", choice.config(sizes))


def _add(builder: Builder, case_id: str, config: AdapterConfig) -> None:
    distributions = {
        name: _distribution(config, name.rsplit(".", 1)[1], shape) for name, shape in adapter_layout(config).items()
    }
    builder.case(
        Case(
            id=case_id,
            statements=tuple(dict.fromkeys(statements.initialise(config))),
            op=Op.INITIALISE,
            expect=Expectation(distribution=distributions),
            args={"config": json.loads(config_to_json(config)), "seed": _SEED, "draws": _DRAWS},
        )
    )


def _distribution(config: AdapterConfig, short: str, shape: Shape) -> Mapping[str, object]:
    """INI-2 to INI-9."""
    if short in _CONSTANTS:
        return {"kind": "constant", "value": _CONSTANTS[short]}
    projection = config.projection
    if short.startswith("W") and projection.kind.has_rule:
        rows, columns = shape[-2:]
        return {"kind": "uniform", "bound": math.sqrt(12.0 / (rows + columns))}
    return {"kind": "normal", "std": _deviation(projection, short)}


def _deviation(projection: Projection, short: str) -> float:
    """The standard deviation of a normal tensor."""
    rule_std = _SHARED_RULE_STD if projection.shared_phm_rule else _OWN_RULE_STD
    match short:
        case "phm_rule":
            std = rule_std
        case "phm_rule_left" | "phm_rule_right":
            std = math.sqrt(rule_std)
        case "W_left" | "W_right":
            std = math.sqrt(_DENSE_STD / math.sqrt(projection.phm_rank or 1))
        case _:
            std = _DENSE_STD
    return std
