"""Adapters against backbones that are given as descriptions and arrays."""

from dataclasses import replace

import numpy as np
import pytest

from compacter_core.compatibility import check_overrides, check_sites, check_structure, check_weights
from compacter_core.config import Override, Site
from compacter_core.errors import ErrorCode
from compacter_core.format.sketch import sketch_weight, weight_name
from compacter_core.vocabulary import NormStyle, OverrideKind, Stack
from tests.format.builders import BACKBONE, CONFIG, NORM, make_adapter, rejected, with_config

UNDESCRIBED = with_config(backbone=None, sites=(Site(id="encoder.1.ffn", bottleneck_size=4),))
INSIDE = 2.0**-8 - 2.0**-20
"""A relative change that is allowed, and room for the product's rounding to float32."""


@pytest.mark.spec("SKT-7", "SKT-8")
def test_type_sizes_and_norm_style_are_those_of_the_description() -> None:
    check_structure(BACKBONE, replace(BACKBONE, id="another/name", modules={}, norms=()))
    for changed, code in (
        (replace(BACKBONE, model_type="roberta"), ErrorCode.E401),
        (replace(BACKBONE, hidden_size=16), ErrorCode.E401),
        (replace(BACKBONE, num_layers={Stack.ENCODER: 3}), ErrorCode.E401),
        (replace(BACKBONE, num_layers={Stack.ENCODER: 2, Stack.DECODER: 2}), ErrorCode.E401),
        (replace(BACKBONE, norm_style=NormStyle.PRE), ErrorCode.E402),
    ):
        check_structure(None, changed)
        with rejected(code):
            check_structure(BACKBONE, changed)


@pytest.mark.spec("SKT-12")
def test_without_a_description_size_and_layers_are_the_backbones() -> None:
    check_sites(UNDESCRIBED, BACKBONE)
    with rejected(ErrorCode.E401):
        check_sites(UNDESCRIBED, replace(BACKBONE, hidden_size=16))
    for num_layers in ({Stack.ENCODER: 1}, {Stack.DECODER: 2}):
        with rejected(ErrorCode.E211):
            check_sites(UNDESCRIBED, replace(BACKBONE, num_layers=num_layers))


@pytest.mark.spec("SKT-5", "SKT-9")
def test_weights_are_the_sketched_ones_up_to_a_rounding_to_bfloat16() -> None:
    weight = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    name = weight_name("encoder.0.ffn")
    adapter = replace(make_adapter(), sketches={name: sketch_weight(weight)})
    for factor, code in ((1.0, None), (1 + INSIDE, None), (1 - INSIDE, None), (1 + 2.0**-7, ErrorCode.E403)):
        linears = [(name, weight * np.float32(factor)), ("sketch.unknown.weight", weight)]
        if code is None:
            check_weights(adapter, linears)
        else:
            with rejected(code):
                check_weights(adapter, linears)
    with rejected(ErrorCode.E403):
        check_weights(adapter, [(name, weight.T)])


@pytest.mark.spec("SKT-10", "SKT-11")
def test_overrides_are_norms_and_biases_of_the_backbone() -> None:
    adapter = make_adapter()
    shapes = {f"{NORM}.weight": (8,), "a.bias": (8,), "a.weight": (8,)}
    check_overrides(adapter, shapes, {f"{NORM}.weight"})
    for wrong in ({}, shapes | {f"{NORM}.weight": (9,)}, shapes | {f"{NORM}.weight": (1, 8)}):
        with rejected(ErrorCode.E404):
            check_overrides(adapter, wrong, {f"{NORM}.weight"})
    with rejected(ErrorCode.E405):
        check_overrides(adapter, shapes, ())
    for name, kind, allowed in (
        ("a.bias", OverrideKind.BIAS, True),
        ("a.weight", OverrideKind.BIAS, False),
        ("a.bias", OverrideKind.HEAD, False),
    ):
        config = replace(CONFIG, overrides=(Override(name=name, kind=kind),))
        other = replace(adapter, config=config, tensors={f"override.{name}": np.ones(8)})
        if allowed:
            check_overrides(other, shapes, ())
        else:
            with rejected(ErrorCode.E405):
                check_overrides(other, shapes, ())
