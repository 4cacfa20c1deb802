"""The inference benchmark's tiny models, made once: an adapter, and graphs for CPUs in both precisions."""

import pytest

from benchmarks.inference_choices import PRECISIONS, Arm
from benchmarks.inference_models import CpuModels, Models
from benchmarks.inference_source import Source
from compacter_exporters.optimise.choices import Precision, Target


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Models]:
    source = Source(tmp_path_factory.mktemp("tiny"), "tiny")
    found: dict[Precision, Models] = {one: CpuModels(source, one) for one in PRECISIONS[Target.CPU]}
    for models in found.values():
        models.path(Arm.BACKBONE)
    return found
