"""What a mutant is."""

from collections.abc import Callable
from dataclasses import dataclass

from compacter_core.config import AdapterConfig
from compacter_core.conformance.implementation import Implementation
from compacter_core.conformance.mutation.implementation import NumericsImplementation
from compacter_core.conformance.mutation.numerics import Numerics
from compacter_core.conformance.words import ConformanceClass


def never(_: AdapterConfig) -> bool:
    """For mutants that only special values reveal."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A wrong implementation.

    Args:
        name: unique, of words joined by hyphens.
        description: what it does wrong.
        classes: those it is wrong in.
        numerics: what it computes.
        applies: whether a case of these classes with this configuration can and has to notice it, whatever its values
            are: they are drawn again until it does. False for what only special values reveal.
    """

    name: str
    description: str
    classes: frozenset[ConformanceClass]
    numerics: Callable[[], Numerics]
    applies: Callable[[AdapterConfig], bool]

    def make(self) -> Implementation:
        """The wrong implementation, which claims its classes in every type."""
        return NumericsImplementation(f"mutant {self.name}", self.numerics(), self.classes)
