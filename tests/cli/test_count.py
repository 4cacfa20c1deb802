"""`compacter count`: the paper's table, exactly, and formulas that give the counts."""

import json
import re
from pathlib import Path

import pytest

from compacter_core.cli.main import main
from tests.support.backbones import BACKBONES, tiny_backbone


def count(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["count", *arguments, "--json"]) == 0
    data: dict[str, object] = json.loads(capsys.readouterr().out)
    return data


@pytest.mark.parametrize(
    ("method", "phm_dim", "percent"),
    [
        ("adapter", 4, 0.832),
        ("pfeiffer", 4, 0.427),
        ("adapter_drop", 4, 0.494),
        ("low_rank", 4, 0.073),
        ("phm_adapter", 4, 0.240),
        ("phm_adapter", 8, 0.160),
        ("phm_adapter", 12, 0.179),
        ("compacter", 4, 0.073),
        ("compacter++", 4, 0.047),
    ],
)
def test_the_paper_s_table(method: str, phm_dim: int, percent: float, capsys: pytest.CaptureFixture[str]) -> None:
    """Table 1, T5-base: to the digits printed, on a backbone of 222,882,048 parameters with 47,616 norm gains."""
    data = count(capsys, "--model", "t5-base", "--method", method, "--phm-dim", str(phm_dim))
    assert (data["backbone"], data["norms"]) == (222_882_048, 47_616)
    trained_percent = data["trained_percent"]
    assert isinstance(trained_percent, float)
    assert round(trained_percent, 3) == percent
    numbers = str(data["formula"]).split(" = ")[1]
    assert re.fullmatch(r"[0-9*/+^() ]+", numbers)
    assert eval(numbers.replace("^", "**")) == data["adapter"]  # noqa: S307 (digits and operators, see above)


@pytest.mark.parametrize("model_type", BACKBONES)
def test_a_directory_s_backbone(model_type: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same counts as of the model itself."""
    model = tiny_backbone(model_type)
    model.config.save_pretrained(tmp_path)
    data = count(capsys, "--model", str(tmp_path), "--reduction-factor", "4", "--phm-dim", "2")
    assert data["backbone"] == sum(parameter.numel() for parameter in model.parameters())


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", "--model", "t5-base", "--phm-dim", "5"]) == 2
    error = capsys.readouterr().err
    assert "E207" in error
    assert "[4, 6]" in error, "the nearest that work"
    assert main(["count", "--model", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err
    (tmp_path / "config.json").write_text('{"model_type": "clip"}', encoding="utf-8")
    assert main(["count", "--model", str(tmp_path)]) == 2
    assert "E803" in capsys.readouterr().err
