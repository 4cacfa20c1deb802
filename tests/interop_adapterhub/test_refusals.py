"""Every refusal, on what AdapterHub itself saved."""

from pathlib import Path

import pytest

from compacter_core.cli.main import main
from compacter_core.errors import CompacterError
from compacter_core.importers.adapterhub import from_adapterhub
from compacter_core.pytorch.known_backbone import open_backbone
from tests.interop_adapterhub.refusals import REFUSALS, Refusal


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_refusals(refusal: Refusal, tmp_path: Path) -> None:
    source, directory = refusal.save(tmp_path)
    with pytest.raises(CompacterError) as refused:
        from_adapterhub(directory, backbone=open_backbone(source.backbone), allow_pickle=True)
    assert refused.value.code is refusal.code


def test_a_refusal_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, directory = REFUSALS["gating"].save(tmp_path)
    output = tmp_path / "adapter.safetensors"
    command = ["import", "adapterhub", str(directory), "--backbone", str(source.backbone), "-o", str(output)]
    assert main(command) == 2
    assert "E502" in capsys.readouterr().err
    assert not output.exists()
