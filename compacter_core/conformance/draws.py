"""Fresh tensors: the distributions they should be drawn from, and what the seed changes (CNF-10, CNF-13)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compacter_core.adapter import Array
from compacter_core.conformance.statistics import Distribution, Kind, check_distribution
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import config_from_json
from compacter_core.layout import adapter_layout

Tensors = Mapping[str, Array]
_PARAMETERS = {Kind.NORMAL: "std", Kind.UNIFORM: "bound", Kind.CONSTANT: "value"}


def distributions(value: Mapping[str, Mapping[str, object]], place: str) -> dict[str, Distribution]:
    """The distributions in `expect.distribution` of the case `place`.

    Raises:
        CompacterError: E801 if one is none.
    """
    try:
        return {name: _distribution(dict(item)) for name, item in value.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise CompacterError(
            ErrorCode.E801, f"suite: case {place} has a distribution that is none ({error!r})", value=value
        ) from error


def check_draws(args: Mapping[str, Any], tensors: Sequence[Tensors], expected: Mapping[str, Distribution]) -> list[str]:
    """What is wrong with the draws of one seed, drawn twice, and with those of another seed.

    Args:
        args: `config` and `draws` of the case.
        tensors: with the case's seed, with the same seed again, and with another one; each tensor is [draws, ...].
        expected: what every tensor is drawn from.
    """
    layout = adapter_layout(config_from_json(json.dumps(args["config"])))
    shapes = {name: (int(args["draws"]), *shape) for name, shape in layout.items() if name in expected}
    first, again, other = tensors
    for each in tensors:
        found = {name: array.shape for name, array in each.items()}
        if found != shapes:
            wrong = sorted(name for name in {**found, **shapes} if found.get(name) != shapes.get(name))[0]
            return [f"{wrong}: got shape {_shown(found.get(wrong))}, expected {_shown(shapes.get(wrong))}"]
    problems = []
    for name, distribution in sorted(expected.items()):
        problem = check_distribution(first[name], distribution)
        problems += [f"{name}: {problem}"] if problem else []
        problems += [
            f"{name}: {problem}" for problem in _dependence(first[name], again[name], other[name], distribution)
        ]
    return problems


def _dependence(first: Array, again: Array, other: Array, distribution: Distribution) -> list[str]:
    """A random tensor is a function of its seed, and of nothing else, and no two draws of it are equal."""
    problems = [] if np.array_equal(first, again) else ["the same seed gave other values"]
    if distribution.kind is Kind.CONSTANT:
        return problems
    if np.array_equal(first, other):
        problems.append("another seed gave the same values")
    rows = first.reshape(len(first), -1)
    different = len(np.unique(rows, axis=0))
    if different < len(rows):
        problems.append(f"only {different} of {len(rows)} draws are different")
    return problems


def _distribution(value: dict[str, object]) -> Distribution:
    kind = Kind(str(value.pop("kind")))
    parameter = value.pop(_PARAMETERS[kind])
    if value or isinstance(parameter, bool) or not isinstance(parameter, int | float):
        raise ValueError(f"{kind} takes the number {_PARAMETERS[kind]} alone")
    if kind is not Kind.CONSTANT and parameter <= 0:
        raise ValueError(f"{_PARAMETERS[kind]} has to be above 0")
    return Distribution(kind, float(parameter))


def _shown(shape: tuple[int, ...] | None) -> str:
    return "no such tensor" if shape is None else str(list(shape))
