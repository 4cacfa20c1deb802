"""Our implementations conform in everything they claim, by the vectors of the specification."""

from pathlib import Path

import pytest

from compacter_core.cli.main import main
from compacter_core.conformance.implementations import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_conformant(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `compacter conformance run --implementation NAME` in a shell."""
    code = main(["conformance", "run", "--implementation", name, "--report", str(tmp_path / "report.json")])
    assert code == 0, capsys.readouterr().out
