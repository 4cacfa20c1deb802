"""Initial values of an adapter's tensors (specs/initialisation.md).

    tensor                        distribution                                  source
    A, shared                     normal, std 1e-4                              the authors' configurations
    A, one per projection         normal, std 0.01                              the authors' code
    A in factors                  both normal, std sqrt(std of A)               chosen here: A_i has A's std
    W_left, W_right of lphm       for each i uniform within g sqrt(6 / (u + v)) Xavier, g = sqrt 2, the authors' code
    W of phm                      likewise                                      likewise
    W of dense                    normal, std 0.01                              Houlsby et al., 2019, section 2.1
    W_left, W_right of low_rank   both normal, entries of product of std 0.01   chosen here: as dense
    b                             0
    scaling                       1

Here [u, v] is the shape of the matrix drawn (of one W_left_i, say), not of the projection.
Every adapter so starts near the identity: delta is small against its skip.
"""

import math
from typing import Final

import numpy as np

from compacter_core.adapter import Array
from compacter_core.config import AdapterConfig, Projection
from compacter_core.layout import Shape, adapter_layout
from compacter_core.vocabulary import ProjectionKind

SHARED_RULE_STD: Final = 1e-4
OWN_RULE_STD: Final = 0.01
DENSE_STD: Final = 0.01
XAVIER_GAIN: Final = math.sqrt(2.0)


def initialise(
    config: AdapterConfig, generator: np.random.Generator, *, rule_std: float | None = None
) -> dict[str, Array]:
    """Fresh float64 tensors for exactly the names and shapes of `adapter_layout(config)`.

    The values are a function of the configuration and of the generator's state: tensors are drawn in layout order.

    Args:
        config: the adapter.
        generator: source of randomness.
        rule_std: standard deviation of A's entries; None for the table's.
    """
    std = rule_std if rule_std is not None else default_rule_std(config.projection)
    return {
        name: _draw(name.rsplit(".", 1)[1], shape, config.projection, std, generator)
        for name, shape in adapter_layout(config).items()
    }


def default_rule_std(projection: Projection) -> float:
    """The standard deviation of A's entries where none is asked for."""
    return SHARED_RULE_STD if projection.shared_phm_rule else OWN_RULE_STD


def _draw(short: str, shape: Shape, projection: Projection, rule_std: float, generator: np.random.Generator) -> Array:
    """One tensor, by its short name."""
    match short:
        case "b":
            tensor = np.zeros(shape)
        case "scaling":
            tensor = np.ones(shape)
        case "phm_rule":
            tensor = generator.normal(0.0, rule_std, shape)
        case "phm_rule_left" | "phm_rule_right":
            tensor = generator.normal(0.0, math.sqrt(rule_std), shape)
        case _ if projection.kind.has_rule:
            bound = XAVIER_GAIN * math.sqrt(6.0 / (shape[-2] + shape[-1]))
            tensor = generator.uniform(-bound, bound, shape)
        case _ if projection.kind is ProjectionKind.LOW_RANK:
            # The product of two independent factors of std q, summed over r, has variance r q^4.
            tensor = generator.normal(0.0, math.sqrt(DENSE_STD / math.sqrt(projection.phm_rank or 1)), shape)
        case _:
            tensor = generator.normal(0.0, DENSE_STD, shape)
    return tensor
