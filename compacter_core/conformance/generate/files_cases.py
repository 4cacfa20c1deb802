"""Every case about files: reading, matching, writing, and the ONNX form."""

from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.files_backbones import add_backbones
from compacter_core.conformance.generate.files_collector import Collector
from compacter_core.conformance.generate.files_configurations import add_configurations
from compacter_core.conformance.generate.files_containers import add_containers
from compacter_core.conformance.generate.files_extracts import add_extracts
from compacter_core.conformance.generate.files_grafts import add_grafts
from compacter_core.conformance.generate.files_liberties import add_liberties
from compacter_core.conformance.generate.files_misfits import add_misfits
from compacter_core.conformance.generate.files_order import add_order
from compacter_core.conformance.generate.files_tensors import add_tensors
from compacter_core.conformance.generate.files_valid import add_valid
from compacter_core.conformance.generate.files_writing import add_writing


def add_file_cases(builder: Builder) -> None:
    """Add the cases of the operations read, match, write, extract and graft, with their files."""
    cases = Collector(builder)
    add_valid(cases)
    add_liberties(cases)
    add_containers(cases)
    add_configurations(cases)
    add_tensors(cases)
    add_backbones(cases)
    add_writing(cases)
    add_order(cases)
    add_extracts(cases)
    add_grafts(cases)
    add_misfits(cases)
