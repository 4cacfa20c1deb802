"""Cases of `count`: the published methods at the sizes of the paper, and what counts once, or not at all."""

import json
from dataclasses import replace
from typing import Final

from compacter_core.config import AdapterConfig, Backbone, Head, Override, Projection, Site
from compacter_core.conformance.case import Case, Expectation
from compacter_core.conformance.exact.counts import Counted
from compacter_core.conformance.generate import statements
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.configurations import FFN, NEXT_FFN, SITES, Biases, Choice, Rule, Scale, Sizes
from compacter_core.conformance.words import Op
from compacter_core.format.config_json import config_to_json
from compacter_core.methods import METHODS, Method, create_config
from compacter_core.vocabulary import NormStyle, OverrideKind, ProjectionKind, ScalingKind, Stack

_D: Final = 768
_K: Final = 24
_N: Final = 4

_BACKBONES: Final = {
    "bert-base": Backbone(model_type="bert", hidden_size=_D, num_layers={Stack.ENCODER: 12}, norm_style=NormStyle.POST),
    "t5-base": Backbone(
        model_type="t5",
        hidden_size=_D,
        num_layers={Stack.ENCODER: 12, Stack.DECODER: 12},
        norm_style=NormStyle.PRE,
    ),
}
_TRAINED: Final = {
    Scale.ONE: None,
    Scale.NUMBER: None,
    Scale.LEARNED: ScalingKind.LEARNED,
    Scale.CHANNEL: ScalingKind.CHANNEL,
}
_VARIANTS: Final = (
    Choice(kind=ProjectionKind.DENSE, rule=Rule.NONE, scale=Scale.CHANNEL, biases=Biases.DOWN),
    Choice(kind=ProjectionKind.DENSE, rule=Rule.NONE, shared_W=True, biases=Biases.NONE),
    Choice(kind=ProjectionKind.LOW_RANK, rule=Rule.NONE, shared_W=True, scale=Scale.LEARNED),
    Choice(kind=ProjectionKind.PHM, rule=Rule.SHARED, biases=Biases.UP),
    Choice(kind=ProjectionKind.PHM, rule=Rule.OWN_FACTORED, scale=Scale.NUMBER),
    Choice(kind=ProjectionKind.PHM, rule=Rule.SHARED_FACTORED, shared_W=True),
    Choice(kind=ProjectionKind.LPHM, rule=Rule.OWN, shared_W=True, scale=Scale.CHANNEL),
    Choice(kind=ProjectionKind.LPHM, rule=Rule.OWN_FACTORED, biases=Biases.NONE),
    Choice(kind=ProjectionKind.LPHM, rule=Rule.SHARED_FACTORED, scale=Scale.LEARNED),
    Choice(kind=ProjectionKind.LPHM, rule=Rule.SHARED, shared_W=True),
)


def add_count_cases(builder: Builder) -> None:
    """All of them."""
    for name, backbone in _BACKBONES.items():
        for method in Method:
            config = create_config(backbone, method=method)
            _add(builder, f"count/{method.value}/{name}", config, _of_method(method, backbone))
    for choice in _VARIANTS:
        sizes = Sizes(d=24, k=12, n=3, r=2)
        _add(builder, f"count/variant/{choice.words}", choice.config(sizes), _of_choice(choice, sizes))
    _add_widths(builder)
    _add_companions(builder)


def _of_method(method: Method, backbone: Backbone) -> int:
    """D = 768 and k = 768 / 32; a site behind each sublayer of the method in each layer that it does not skip."""
    spec = METHODS[method]
    sites = len(spec.sublayers) * sum(layers - spec.first_layer for layers in backbone.num_layers.values())
    return Counted(kind=spec.kind, d=_D, k=[_K] * sites, n=_N, shared_rule=spec.shared_phm_rule).parameters


def _of_choice(choice: Choice, sizes: Sizes) -> int:
    return Counted(
        kind=choice.kind,
        d=sizes.d,
        k=[sizes.k] * len(SITES),
        n=sizes.n,
        r=sizes.r,
        shared_rule=choice.rule in (Rule.SHARED, Rule.SHARED_FACTORED),
        factored_rule=choice.rule in (Rule.SHARED_FACTORED, Rule.OWN_FACTORED),
        shared_W=choice.shared_W,
        bias_down=choice.biases in (Biases.BOTH, Biases.DOWN),
        bias_up=choice.biases in (Biases.BOTH, Biases.UP),
        scaling=_TRAINED[choice.scale],
    ).parameters


def _add_widths(builder: Builder) -> None:
    """Sites with different k."""
    config = replace(_compacter(), sites=(Site(id=FFN, bottleneck_size=4), Site(id=NEXT_FFN, bottleneck_size=12)))
    expected = Counted(kind=ProjectionKind.LPHM, d=16, k=[4, 12], n=4, shared_rule=True).parameters
    _add(builder, "count/widths", config, expected, "sites with different k")


def _add_companions(builder: Builder) -> None:
    """Head and replaced tensors are no parameters of the adapter."""
    head = Head(
        task="text-classification",
        layers=("classifier",),
        shapes={"classifier.weight": (2, 16), "classifier.bias": (2,)},
        labels=("no", "yes"),
    )
    config = replace(
        _compacter(),
        head=head,
        overrides=(Override(name="encoder.layer.0.output.LayerNorm.weight", kind=OverrideKind.NORM),),
    )
    expected = Counted(kind=ProjectionKind.LPHM, d=16, k=[8], n=4, shared_rule=True).parameters
    _add(builder, "count/companions", config, expected, "a head and a replaced norm do not count")


def _compacter() -> AdapterConfig:
    return AdapterConfig(
        method="compacter",
        name="vector",
        hidden_size=16,
        projection=Projection.compacter(),
        sites=(Site(id=FFN, bottleneck_size=8),),
    )


def _add(builder: Builder, case_id: str, config: AdapterConfig, parameters: int, comment: str = "") -> None:
    builder.case(
        Case(
            id=case_id,
            statements=(statements.COUNT,),
            op=Op.COUNT,
            expect=Expectation(value={"parameters": parameters}),
            args={"config": json.loads(config_to_json(config))},
            comment=comment,
        )
    )
