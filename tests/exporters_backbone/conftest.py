"""One export per architecture and backend, shared by the tests."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from compacter_exporters.backbone import export_backbone
from compacter_exporters.choices import Backend
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.checkpoints import write_checkpoint, write_tokenizer
from tests.exporters_backbone.generators import Generator
from tests.exporters_backbone.generators import exported as exported_generator
from tests.support.models import MODEL_TYPES

STAGES = ["load", "export", "write", "check"]


@dataclass(frozen=True)
class Exported:
    """A checkpoint and its graph."""

    model_type: str
    checkpoint: Path
    model: Path


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Backend, str], Exported]:
    """Exports on first demand: it is the slow part of these tests."""

    @cache
    def once(backend: Backend, model_type: str) -> Exported:
        checkpoint = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), model_type)
        write_tokenizer(checkpoint, model_max_length=10**30)
        output = tmp_path_factory.mktemp("exported") / "backbone"
        stages: list[str] = []
        model = export_backbone(checkpoint, output, backend=backend, progress=stages.append)
        assert stages == STAGES
        assert model == output / "model.onnx"
        return Exported(model_type, checkpoint, model)

    return once


@pytest.fixture(params=[(b, t) for b in BACKENDS for t in MODEL_TYPES], ids="-".join)
def exported(request: pytest.FixtureRequest, export: Callable[[Backend, str], Exported]) -> Exported:
    """Each architecture by each backend."""
    return export(*request.param)


@pytest.fixture
def exported_bert(export: Callable[[Backend, str], Exported]) -> Exported:
    """BERT."""
    return export(BACKENDS[0], "bert")


@pytest.fixture(scope="session")
def make_generator(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Backend, str], Generator]:
    """Exports a model that generates text on first demand. An adapter attached to it must be detached again."""

    @cache
    def once(backend: Backend, model_type: str) -> Generator:
        return exported_generator(backend, model_type, tmp_path_factory.mktemp(f"{backend}-{model_type}"))

    return once
