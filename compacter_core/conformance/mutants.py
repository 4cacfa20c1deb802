"""The list of wrong implementations that the suite has to notice.

Each is a right implementation with one thing changed. The generator draws the values of a case again until the case
notices every mutant that its configuration is open to; the runner's tests run the suite on them.
"""

from typing import Final

from compacter_core.config import AdapterConfig
from compacter_core.conformance.mutation.gradients import GRADIENT_MUTANTS
from compacter_core.conformance.mutation.initial import COUNT_MUTANTS, INITIAL_MUTANTS
from compacter_core.conformance.mutation.mutant import Mutant
from compacter_core.conformance.mutation.output import OUTPUT_MUTANTS
from compacter_core.conformance.mutation.placements import PLACEMENT_MUTANTS
from compacter_core.conformance.mutation.tensors import TENSOR_MUTANTS
from compacter_core.conformance.words import Op

MUTANTS: Final[tuple[Mutant, ...]] = (
    *TENSOR_MUTANTS,
    *OUTPUT_MUTANTS,
    *GRADIENT_MUTANTS,
    *PLACEMENT_MUTANTS,
    *INITIAL_MUTANTS,
    *COUNT_MUTANTS,
)


def mutants_for(op: Op, config: AdapterConfig) -> list[Mutant]:
    """Those that a case of that operation and configuration has to notice, if nothing is special about its values."""
    return [mutant for mutant in MUTANTS if op.belongs_to in mutant.classes and mutant.applies(config)]
