"""The backbones of fixtures, each made once."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

from compacter_core.pytorch.known_backbone import TransformersBackbone, open_backbone
from tests.importers.fixtures.tiny import build, save_backbone

torch.set_num_threads(1)

KnownBackbones = Callable[[str, str], TransformersBackbone]


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> KnownBackbones:
    """What an importer may know of a tiny backbone by its class and type, read from disk as its user has it."""

    @cache
    def make(model_class: str, model_type: str) -> TransformersBackbone:
        return open_backbone(save_backbone(build(model_class, model_type), tmp_path_factory.mktemp(model_class)))

    return make
