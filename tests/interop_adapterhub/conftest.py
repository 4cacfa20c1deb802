"""AdapterHub needs transformers 4.57, which marks the environment that has to have it."""

from importlib.metadata import version
from typing import Any

import pytest

if version("transformers").startswith("4.57."):
    from tests.interop_adapterhub.world import World
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The models, each made once."""
    return World(tmp_path_factory.mktemp("backbones"))
