"""The inference benchmark's tiny models, made once: an adapter, and graphs in both precisions."""

import pytest

from benchmarks.inference_models import Arm, Models, Precision


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Models]:
    directory = tmp_path_factory.mktemp("tiny")
    found = {precision: Models(directory, "tiny", precision) for precision in Precision}
    for models in found.values():
        models.path(Arm.BACKBONE)
    return found
