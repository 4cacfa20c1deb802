"""`compacter import`: one file from what another library saved."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compacter_core.cli.import_adapter import KINDS
from compacter_core.cli.main import main
from compacter_core.format.reader import load_adapter, load_content
from tests.importers.hub_directories import options, tensors, write
from tests.support.models import tiny_model

RULE = "bert.shared_parameters.a.phm_rule"


def test_the_result_is_an_adapter_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory, output = write(tmp_path / "saved"), tmp_path / "adapter.safetensors"
    command = ["import", "adapterhub", str(directory), "-o", str(output)]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    content = load_content(output)
    # 8 + 4 sites of 2 r (d + k) + d + k
    assert (printed["parameters"], printed["sites"], printed["recognises_backbone"]) == (8 + 4 * 36, 4, False)
    assert printed["sha256"] == content.sha256
    assert printed["notes"] == ["without the backbone it cannot be checked that no layer is missing"]
    assert main(command) == 0
    assert "note: without the backbone" in capsys.readouterr().out


def test_with_the_backbone_it_recognises_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_model("bert", "base").save_pretrained(tmp_path / "backbone")
    own = options(reduction_factor=4, phm_layer=False)
    state = {
        key: np.tile(value, [2 if size == 8 else 1 for size in value.shape]) for key, value in tensors(own).items()
    }
    directory, output = write(tmp_path / "saved", own, state, hidden_size=16), tmp_path / "adapter.safetensors"
    assert (
        main(["import", "adapterhub", str(directory), "--backbone", str(tmp_path / "backbone"), "-o", str(output)]) == 0
    )
    adapter = load_adapter(output)
    assert adapter.sketches
    assert adapter.config.backbone is not None
    assert "note" not in capsys.readouterr().out
    assert main(["import", "adapterhub", str(directory), "--backbone", str(tmp_path), "-o", str(output)]) == 2
    assert "E005" in capsys.readouterr().err


def test_a_lost_rule_is_supplied_by_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {key: value for key, value in tensors(options()).items() if key != RULE}
    directory, output = write(tmp_path / "saved", state=state), tmp_path / "adapter.safetensors"
    command = ["import", "adapterhub", str(directory), "-o", str(output)]
    assert main(command) == 2
    assert "E302" in capsys.readouterr().err
    assert not output.exists()
    rule = tensors(options())[RULE]
    save_file({"phm_rule": rule}, tmp_path / "shared.safetensors")
    assert main([*command, "--shared-parameters", str(tmp_path / "shared.safetensors")]) == 0
    assert np.array_equal(load_file(output)["shared.phm_rule"], rule)


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if not kind.takes_shared])
def test_other_kinds_take_no_shared_parameters(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["import", kind, str(tmp_path), "-o", str(tmp_path / "out"), "--shared-parameters", "x"]
    assert main(command) == 2
    assert "E001" in capsys.readouterr().err
