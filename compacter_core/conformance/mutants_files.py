"""The list of wrong readers, writers and grafters that the suite has to notice.

Each is a right implementation with one thing changed; tests run the suite on every one of them.
"""

from typing import Final

from compacter_core.conformance.mutation.file_grafters import ONNX_MUTANTS
from compacter_core.conformance.mutation.file_matchers import MATCH_MUTANTS
from compacter_core.conformance.mutation.file_mutant import FileMutant
from compacter_core.conformance.mutation.file_readers import READ_MUTANTS
from compacter_core.conformance.mutation.file_writers import WRITE_MUTANTS

FILE_MUTANTS: Final[tuple[FileMutant, ...]] = (*READ_MUTANTS, *MATCH_MUTANTS, *WRITE_MUTANTS, *ONNX_MUTANTS)
