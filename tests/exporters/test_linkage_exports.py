"""Swappable graphs and banks opened in exports of transformers models, against PyTorch."""

from pathlib import Path

import numpy as np
import pytest

from compacter_core.config import ATTACH_PRESETS
from compacter_core.methods import Method
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.linkage.verify_open import verify_open
from compacter_exporters.verify import AGREEMENT
from compacter_runtime import Session
from tests.exporters.conftest import Exported
from tests.exporters.test_exports import run, trained
from tests.support.models import MODEL_TYPES, tiny_inputs

EXPORTERS = ("torchscript17", "dynamo")
CASES = [
    ("bert", "torchscript14", "houlsby", Method.COMPACTER),
    *((model, exporter, "houlsby", Method.COMPACTER) for model in MODEL_TYPES for exporter in EXPORTERS),
    *(("bert", "torchscript17", preset, Method.COMPACTER) for preset in ATTACH_PRESETS if preset != "houlsby"),
    *(("bert", "torchscript17", "houlsby", method) for method in (Method.ADAPTER, Method.LOW_RANK, Method.PHM_ADAPTER)),
]


@pytest.mark.spec("LNK-1", "LNK-2", "LNK-11", "LNK-12")
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_against_pytorch(exported: Exported, tmp_path: Path, case: tuple[str, str, str, Method]) -> None:
    model_type, exporter, preset, method = case
    backbone = exported(model_type, exporter)
    adapter, logits = trained(model_type, method=method, preset=preset)
    expected, bare = logits.numpy(), run(backbone)
    inputs = {name: value.numpy() for name, value in tiny_inputs().items()}
    limit = AGREEMENT * np.abs(expected).max()

    graft_swappable(backbone, adapter, tmp_path / "swappable.onnx")
    swappable = Session(tmp_path / "swappable.onnx")
    assert np.array_equal(swappable.run(inputs)["logits"], bare)
    assert np.abs(swappable.run(inputs, adapter=swappable.load_adapter(adapter))["logits"] - expected).max() <= limit

    graft_bank(backbone, adapter, tmp_path / "bank.onnx")
    bank = Session(tmp_path / "bank.onnx")
    name = bank.bank.add(adapter)
    mixed = bank.run(inputs, adapter=[name, None, name])["logits"]
    wanted = np.stack([expected[0], bare[1], expected[2]])
    assert np.abs(mixed - wanted).max() <= limit

    for linkage in ("swappable", "bank"):
        report = verify_open(tmp_path / f"{linkage}.onnx", [adapter])
        assert report.ok, report.as_text()
