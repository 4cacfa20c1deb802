"""The list of wrong implementations that the suite has to notice."""

from collections.abc import Callable
from dataclasses import dataclass

from compacter_core.config import AdapterConfig
from compacter_core.conformance.mutation.numerics import Numerics
from compacter_core.conformance.words import ConformanceClass, Op


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A wrong implementation."""

    name: str
    description: str
    classes: frozenset[ConformanceClass]
    numerics: Callable[[], Numerics]
    applies: Callable[[AdapterConfig], bool]


MUTANTS: tuple[Mutant, ...] = ()


def mutants_for(op: Op, config: AdapterConfig) -> list[Mutant]:
    """Those that a case of that operation and configuration has to notice."""
    return [mutant for mutant in MUTANTS if op.belongs_to in mutant.classes and mutant.applies(config)]
