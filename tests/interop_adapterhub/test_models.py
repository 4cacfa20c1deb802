"""Every architecture and every published configuration: an imported adapter computes what AdapterHub computes."""

from pathlib import Path

import pytest

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.format.writer import save_adapter
from compacter_core.importers.adapterhub import from_adapterhub, save_adapterhub
from tests.interop_adapterhub.cases import CONFIGS, MODELS, UNPREFIXED
from tests.interop_adapterhub.sources import difference, run
from tests.interop_adapterhub.world import RELATIVE_F64, World, outputs_with


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("config", CONFIGS)
def test_outputs_are_equal(model_class: str, config: str, world: World, tmp_path: Path) -> None:
    theirs, ours, options = world.source(model_class), world.plain(model_class), CONFIGS[config]()
    directory = theirs.save(tmp_path, options)
    if model_class in UNPREFIXED and config.startswith("compacter"):
        with pytest.raises(CompacterError) as refused:
            from_adapterhub(directory, backbone=world.known(model_class))
        assert refused.value.code is ErrorCode.E302
    result = world.imported(model_class, directory, options)
    want = theirs.outputs()
    assert difference(want, outputs_with(ours, result, theirs.inputs)) <= RELATIVE_F64
    assert difference(want, run(ours, theirs.inputs)) > 1e3 * RELATIVE_F64
    save_adapter(result.adapter, tmp_path / "adapter.safetensors")
    assert load_adapter(tmp_path / "adapter.safetensors").config == result.adapter.config


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("config", ["compacter", "adapter_plus"])
def test_the_way_back_changes_no_bit(model_class: str, config: str, world: World, tmp_path: Path) -> None:
    theirs, options = world.source(model_class), CONFIGS[config]()
    result = world.imported(model_class, theirs.save(tmp_path, options), options)
    save_adapterhub(result.adapter, tmp_path / "back")
    assert difference(theirs.outputs(), theirs.loaded(tmp_path / "back")) == 0.0
