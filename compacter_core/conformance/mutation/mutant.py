"""What a mutant is."""

from collections.abc import Callable
from dataclasses import dataclass

from compacter_core.config import AdapterConfig
from compacter_core.conformance.implementation import Implementation
from compacter_core.conformance.mutation.implementation import composed_of
from compacter_core.conformance.mutation.numerics import Numerics
from compacter_core.conformance.words import ConformanceClass


def never(_: AdapterConfig) -> bool:
    """For mutants that only special values reveal."""
    return False


@dataclass(frozen=True, slots=True)
class Mutant:
    """A wrong implementation.

    Args:
        name: unique, of words joined by hyphens.
        description: what it does wrong.
        numerics: what it computes.
        applies: whether a case of these classes with this configuration can and has to notice it, whatever its values
            are: they are drawn again until it does. False for what only special values reveal.
        classes: those it is wrong in.
    """

    name: str
    description: str
    numerics: Callable[[], Numerics]
    applies: Callable[[AdapterConfig], bool]
    classes: frozenset[ConformanceClass]

    def make(self) -> Implementation:
        """The wrong implementation, which claims its classes in every type."""
        return composed_of(self.numerics(), f"mutant {self.name}", self.classes)
