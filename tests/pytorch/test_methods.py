"""The table of methods against the numbers that the paper prints, and the choice of the bottleneck."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from compacter_core.config import ATTACH_PRESETS, Backbone
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.layout import count_parameters
from compacter_core.methods import METHODS, Method, create_config
from compacter_core.vocabulary import Activation, NormStyle, ScalingKind, Stack
from tests.support.blocking import run_blocked

BERT_BASE = Backbone(model_type="bert", hidden_size=768, num_layers={Stack.ENCODER: 12}, norm_style=NormStyle.POST)
T5_BASE = Backbone(
    model_type="t5",
    hidden_size=768,
    num_layers={Stack.ENCODER: 12, Stack.DECODER: 12},
    norm_style=NormStyle.PRE,
)
T5_PARAMETERS = 222_882_048
T5_NORM_GAINS = 47_616


@pytest.mark.parametrize(
    ("method", "phm_dim", "percent"),
    [
        (Method.COMPACTER, 4, 0.073),
        (Method.COMPACTER_PLUS_PLUS, 4, 0.047),
        (Method.ADAPTER, 4, 0.832),
        (Method.PFEIFFER, 4, 0.427),
        (Method.ADAPTER_DROP, 4, 0.494),
        (Method.PHM_ADAPTER, 4, 0.240),
        (Method.PHM_ADAPTER, 8, 0.160),
        (Method.PHM_ADAPTER, 12, 0.179),
    ],
)
def test_shares_of_the_paper(method: Method, phm_dim: int, percent: float) -> None:
    """Table 1 of the paper, T5-base with its norm gains trained, to the digits printed."""
    trained = count_parameters(create_config(T5_BASE, method=method, phm_dim=phm_dim)) + T5_NORM_GAINS
    assert round(100 * trained / T5_PARAMETERS, 3) == percent


def test_exact_counts() -> None:
    assert count_parameters(create_config(BERT_BASE)) == 57_088
    assert count_parameters(create_config(T5_BASE)) == 114_112
    # Two factors of rank 1 on each side, and the biases, at 24 sites.
    assert count_parameters(create_config(BERT_BASE, method="low_rank")) == 24 * (2 * (768 + 24) + 768 + 24)


@pytest.mark.parametrize("method", Method)
def test_every_method_makes_a_config(method: Method) -> None:
    config = create_config(BERT_BASE, method=method.value, name="x")
    assert config.method == method
    assert config.attach == ATTACH_PRESETS[METHODS[method].attach]
    assert len(config.sites) == (12 - METHODS[method].first_layer) * len(METHODS[method].sublayers)
    assert [site.layer for site in config.sites] == sorted(site.layer for site in config.sites)
    assert config.backbone is BERT_BASE
    assert set(METHODS) == set(Method)


@given(hidden=st.integers(1, 4096), n=st.integers(1, 16), reduction=st.integers(1, 64))
def test_bottleneck(hidden: int, n: int, reduction: int) -> None:
    """Every hidden size that n divides works: k is a multiple of n, as close below d / reduction as it can be."""
    assume(hidden % n == 0)
    backbone = Backbone(model_type="bert", hidden_size=hidden, num_layers={Stack.ENCODER: 1}, norm_style=NormStyle.POST)
    k = create_config(backbone, phm_dim=n, reduction_factor=reduction).sites[0].bottleneck_size
    assert k % n == 0
    assert k == n or k <= hidden / reduction < k + n


def test_choices_override_the_table() -> None:
    config = create_config(
        BERT_BASE,
        bottleneck_size=64,
        phm_rank=3,
        non_linearity=Activation.RELU,
        scaling=ScalingKind.LEARNED,
        attach=ATTACH_PRESETS["pfeiffer"],
        layers=(3, 5),
    )
    assert [site.id for site in config.sites] == [f"encoder.{i}.{s}" for i in (3, 5) for s in ("self_attn", "ffn")]
    assert {site.bottleneck_size for site in config.sites} == {64}
    assert config.projection.phm_rank == 3
    assert config.non_linearity is Activation.RELU
    assert config.scaling is ScalingKind.LEARNED
    assert config.attach == ATTACH_PRESETS["pfeiffer"]
    assert [site.id for site in create_config(BERT_BASE, sites=["encoder.7.ffn"]).sites] == ["encoder.7.ffn"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"method": "lora"}, ErrorCode.E001),
        ({"reduction_factor": 0}, ErrorCode.E001),
        ({"phm_dim": 5}, ErrorCode.E207),
        ({"layers": (12,)}, ErrorCode.E211),
        ({"bottleneck_size": 0}, ErrorCode.E208),
        ({"phm_rank": 0}, ErrorCode.E208),
    ],
)
def test_errors(options: dict[str, Any], code: ErrorCode) -> None:
    with pytest.raises(CompacterError) as error:
        create_config(BERT_BASE, **options)
    assert error.value.code is code


def test_needs_no_framework() -> None:
    result = run_blocked("import compacter_core.methods", blocked=["torch", "transformers", "onnx", "onnxruntime"])
    assert result.returncode == 0, result.stderr
