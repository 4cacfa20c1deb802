"""The tests of distributions: no false alarm, a derived limit, and enough power to catch what goes wrong (CNF-13)."""

import json
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest

from compacter_core.adapter import Array
from compacter_core.conformance.draws import check_draws, distributions
from compacter_core.conformance.statistics import FALSE_ALARM, Distribution, Kind, check_distribution
from compacter_core.errors import CompacterError
from compacter_core.format.config_json import config_to_json
from compacter_core.layout import adapter_layout
from tests.conformance.suites import CONFIG

NORMAL = Distribution(Kind.NORMAL, 0.01)
UNIFORM = Distribution(Kind.UNIFORM, 0.5)
ZERO = Distribution(Kind.CONSTANT, 0.0)
MANY = 20_000
Draw = Callable[[np.random.Generator, int], Array]


def normal(generator: np.random.Generator, size: int) -> Array:
    return generator.normal(0.0, NORMAL.parameter, size)


def uniform(generator: np.random.Generator, size: int) -> Array:
    return generator.uniform(-UNIFORM.parameter, UNIFORM.parameter, size)


@pytest.mark.parametrize("size", [1, 2, 10, 100, MANY])
@pytest.mark.parametrize(("draw", "distribution"), [(normal, NORMAL), (uniform, UNIFORM)])
@pytest.mark.spec("CNF-13")
def test_there_is_no_false_alarm(draw: Draw, distribution: Distribution, size: int) -> None:
    for seed in range(200 if size < MANY else 20):
        x = draw(np.random.default_rng(seed), size)
        assert check_distribution(x, distribution) is None
        assert check_distribution(x.astype(np.float32).reshape(-1, 1), distribution) is None


@pytest.mark.parametrize(
    ("x", "distribution", "said"),
    [
        (lambda g: normal(g, MANY) * 1.1, NORMAL, "standard deviation"),
        (lambda g: normal(g, MANY) / 1.1, NORMAL, "standard deviation"),
        (lambda g: normal(g, MANY) + 0.001, NORMAL, "mean"),
        (lambda g: normal(g, MANY) - 0.001, NORMAL, "mean"),
        (lambda g: g.uniform(-0.01, 0.01, MANY) * math.sqrt(3), NORMAL, "Kolmogorov-Smirnov"),
        (lambda g: g.laplace(0.0, 0.01 / math.sqrt(2), MANY), NORMAL, "Kolmogorov-Smirnov"),
        (lambda g: np.abs(normal(g, MANY)), NORMAL, "mean"),
        (lambda g: np.clip(normal(g, MANY), -0.01, 0.01), NORMAL, "standard deviation"),
        (lambda g: uniform(g, MANY) * 1.1, UNIFORM, "standard deviation"),
        (lambda g: uniform(g, MANY) / 1.1, UNIFORM, "standard deviation"),
        (lambda g: uniform(g, MANY) + 0.05, UNIFORM, "mean"),
        (lambda g: g.normal(0.0, UNIFORM.std, MANY), UNIFORM, "Kolmogorov-Smirnov"),
        (lambda g: g.choice([-UNIFORM.std, UNIFORM.std], MANY), UNIFORM, "Kolmogorov-Smirnov"),
        (lambda g: np.zeros(100), UNIFORM, "Kolmogorov-Smirnov"),
        (lambda g: np.full(1, 1e3), NORMAL, "mean"),
        (lambda g: np.append(normal(g, MANY), np.nan), NORMAL, "not finite"),
        (lambda g: np.append(uniform(g, MANY), np.inf), UNIFORM, "not finite"),
        (lambda g: np.full(7, 1e-30), ZERO, "got 1e-30, expected 0.0 everywhere"),
        (lambda g: np.full(7, np.nan), ZERO, "got nan"),
    ],
)
@pytest.mark.spec("CNF-13")
def test_another_distribution_is_caught(
    x: Callable[[np.random.Generator], Array], distribution: Distribution, said: str
) -> None:
    assert said in str(check_distribution(x(np.random.default_rng(1)), distribution))


def test_constants_are_exact() -> None:
    assert check_distribution(np.zeros((3, 2), np.float16), ZERO) is None
    assert check_distribution(np.ones((3, 2)), Distribution(Kind.CONSTANT, 1.0)) is None


@pytest.mark.parametrize("n", [10, 1000, 100_000])
def test_the_limits_are_safe_but_not_loose(n: int) -> None:
    """The exact critical value of a normal mean lies within a tenth below the limit; smaller deviations never alarm."""
    exact = NormalDist().inv_cdf(1.0 - FALSE_ALARM / 2.0) * NORMAL.std / math.sqrt(n)
    spread = np.tile([1.0, -1.0], n // 2) * NORMAL.std * 0.9
    assert "mean" not in str(check_distribution(spread + exact, NORMAL))
    assert "mean" in str(check_distribution(spread + 1.1 * exact, NORMAL))


@pytest.mark.parametrize("n", [100, 10_000])
def test_the_limit_of_the_deviation_covers_the_chi_square_quantile(n: int) -> None:
    z = NormalDist().inv_cdf(1.0 - FALSE_ALARM / 2.0)
    high = (1.0 - 2.0 / (9.0 * n) + z * math.sqrt(2.0 / (9.0 * n))) ** 3  # Wilson and Hilferty's approximation
    signs = np.tile([1.0, -1.0], n // 2) * NORMAL.std
    assert "standard deviation" not in str(check_distribution(signs * math.sqrt(high), NORMAL))
    assert "standard deviation" in str(check_distribution(signs * math.sqrt(1.3 * high), NORMAL))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_distance_is_taken_on_both_sides_of_each_step(sign: float) -> None:
    """Twenty times the value x with F(x) = p, at a distance of max(p, 1 - p)."""
    n = 20
    limit = math.sqrt(math.log(2.0 / FALSE_ALARM) / (2.0 * n))
    for excess, alarms in ((0.01, True), (-0.01, False)):
        x = sign * UNIFORM.parameter * (2.0 * (limit + excess) - 1.0)
        assert ("Kolmogorov" in str(check_distribution(np.full(n, x), UNIFORM))) is alarms


CONFIG_VALUE = json.loads(config_to_json(CONFIG))
ARGS = {"config": CONFIG_VALUE, "seed": 1, "draws": 50}
EXPECTED = {name: ZERO if name.endswith(".b") else Distribution(Kind.NORMAL, 0.01) for name in adapter_layout(CONFIG)}
RULE = "shared.phm_rule"


def draw(seed: int, draws: int = 50) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    return {
        name: np.zeros((draws, *shape)) if EXPECTED[name] is ZERO else generator.normal(0.0, 0.01, (draws, *shape))
        for name, shape in adapter_layout(CONFIG).items()
    }


def problems(first: dict[str, Array], again: dict[str, Array], other: dict[str, Array]) -> str:
    return "; ".join(check_draws(ARGS, (first, again, other), EXPECTED))


@pytest.mark.spec("CNF-10")
def test_draws_depend_on_the_seed_and_on_nothing_else() -> None:
    assert problems(draw(1), draw(1), draw(2)) == ""
    assert f"{RULE}: the same seed gave other values" in problems(draw(1), draw(3), draw(2))
    assert f"{RULE}: another seed gave the same values" in problems(draw(1), draw(1), draw(1))


@pytest.mark.spec("CNF-10")
def test_no_two_draws_are_equal() -> None:
    repeated = draw(1)
    repeated[RULE][7] = repeated[RULE][3]
    assert f"{RULE}: only 49 of 50 draws are different" in problems(repeated, repeated, draw(2))


def test_every_tensor_is_looked_at() -> None:
    for name in adapter_layout(CONFIG):
        wrong = draw(1)
        wrong[name] = wrong[name] + 1.0
        assert name in problems(wrong, wrong, draw(2))


@pytest.mark.parametrize("at", [0, 1, 2])
def test_shapes_and_names_are_those_of_the_configuration(at: int) -> None:
    def with_change(change: Callable[[dict[str, Array]], object]) -> str:
        tensors = [draw(1), draw(1), draw(2)]
        change(tensors[at])
        return problems(tensors[0], tensors[1], tensors[2])

    assert "no such tensor" in with_change(lambda tensors: tensors.pop(RULE))
    assert "extra: got shape [1], expected no such tensor" in with_change(lambda t: t.update(extra=np.zeros(1)))
    wrong = with_change(lambda t: t.update({RULE: t[RULE][:49]}))
    assert f"{RULE}: got shape [49, 2, 2, 2], expected [50, 2, 2, 2]" in wrong


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"kind": "cauchy", "std": 1},
        {"kind": "normal"},
        {"kind": "normal", "bound": 1.0},
        {"kind": "normal", "std": 0.0},
        {"kind": "uniform", "bound": -1.0},
        {"kind": "uniform", "bound": True},
        {"kind": "constant", "value": "0"},
        {"kind": "constant", "value": 0.0, "std": 1.0},
    ],
)
def test_a_distribution_that_is_none_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(CompacterError, match="init/x"):
        distributions({"w": value}, "init/x")


def test_distributions_are_read() -> None:
    value = {"a": {"kind": "normal", "std": 1}, "b": {"kind": "constant", "value": 0}}
    assert distributions(value, "x") == {"a": Distribution(Kind.NORMAL, 1.0), "b": ZERO}
