"""Counts by formula against the layout of files, and against the paper's numbers."""

import pytest
from hypothesis import given

from compacter_core.config import AdapterConfig
from compacter_core.conformance.exact.counts import Counted
from compacter_core.layout import count_parameters
from compacter_core.vocabulary import ProjectionKind, ScalingKind
from tests.support.strategies import adapter_configs


@pytest.mark.spec("FWD-23")
@given(config=adapter_configs())
def test_the_formulas_count_the_layouts_tensors(config: AdapterConfig) -> None:
    counted = Counted(
        kind=config.projection.kind,
        d=config.hidden_size,
        k=[site.bottleneck_size for site in config.sites],
        n=config.projection.phm_dim or 1,
        r=config.projection.phm_rank or 1,
        shared_rule=config.projection.shared_phm_rule,
        factored_rule=config.projection.factorized_phm_rule,
        shared_W=config.projection.shared_W,
        bias_down=config.bias_down,
        bias_up=config.bias_up,
        scaling=config.scaling if isinstance(config.scaling, ScalingKind) else None,
    )
    assert counted.parameters == count_parameters(config)


@pytest.mark.parametrize(
    ("kind", "sites", "n", "percent"),
    [
        (ProjectionKind.LPHM, 24, 4, "0.047"),
        (ProjectionKind.LPHM, 48, 4, "0.073"),
        (ProjectionKind.DENSE, 48, 1, "0.832"),
        (ProjectionKind.DENSE, 24, 1, "0.427"),
        (ProjectionKind.PHM, 48, 4, "0.240"),
        (ProjectionKind.PHM, 48, 8, "0.160"),
        (ProjectionKind.PHM, 48, 12, "0.179"),
    ],
)
def test_the_papers_table(kind: ProjectionKind, sites: int, n: int, percent: str) -> None:
    """Paper, table 1: T5-base with 222,882,048 parameters, of which 47,616 norm gains are trained too."""
    shared = kind is ProjectionKind.LPHM
    adapter = Counted(kind=kind, d=768, k=[24] * sites, n=n, shared_rule=shared).parameters
    assert f"{100 * (adapter + 47_616) / 222_882_048:.3f}" == percent
