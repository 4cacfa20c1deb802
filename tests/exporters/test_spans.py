"""Heads of models that answer questions, whose two columns the graph takes apart: in every linkage as in PyTorch."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compacter_core.adapter import Adapter, Array
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.methods import create_config
from compacter_core.pytorch import attach, describe_backbone
from compacter_exporters.graft import graft
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.verify import AGREEMENT, verify
from compacter_runtime import Session
from tests.support.models import HIDDEN, tiny_inputs, tiny_model

OUTPUTS = ("start_logits", "end_logits")
INPUTS = {name: value.numpy() for name, value in tiny_inputs().items()}


def outputs(result: Any) -> list[Array]:
    """Both columns [rows, tokens], of a session's outputs or PyTorch's."""
    return [np.asarray(result[name]) for name in OUTPUTS]


@pytest.fixture(scope="module", params=["torchscript", "dynamo"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spans") / "model.onnx"
    dynamic: dict[str, Any] = {name: {0: "batch", 1: "sequence"} for name in INPUTS}
    if request.param == "dynamo":
        dimension = torch.export.Dim.DYNAMIC
        how: dict[str, Any] = {
            "dynamo": True,
            "dynamic_shapes": {name: {0: dimension, 1: dimension} for name in INPUTS},
        }
    else:
        how = {"dynamo": False, "dynamic_axes": dynamic | dict.fromkeys(OUTPUTS, dynamic["input_ids"])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            tiny_model("bert", "question-answering"),
            (),
            str(path),
            kwargs=tiny_inputs(),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            opset_version=18,
            verbose=False,
            **how,
        )
    return path


@pytest.fixture(scope="module")
def trained() -> tuple[Adapter, list[Array]]:
    """An adapter with its head, and what PyTorch answers with it."""
    model = tiny_model("bert", "question-answering")
    attached = attach(model, create_config(describe_backbone(model), reduction_factor=4, phm_dim=2))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in attached.trainable_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        return attached.to_adapter(), outputs(model(**tiny_inputs()))


def assert_close(got: list[Array], expected: list[Array]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert np.abs(one - other).max() <= AGREEMENT * np.abs(other).max()


@pytest.mark.spec("ONX-12", "LNK-1", "LNK-2", "LNK-11")
def test_answers_are_pytorchs(backbone: Path, trained: tuple[Adapter, list[Array]], tmp_path: Path) -> None:
    adapter, expected = trained
    bare = outputs(Session(backbone).run(INPUTS))
    assert all(np.abs(one - other).max() > 0.1 for one, other in zip(bare, expected, strict=True))

    graft(backbone, adapter, tmp_path / "merged.onnx")
    assert_close(outputs(Session(tmp_path / "merged.onnx").run(INPUTS)), expected)

    graft_swappable(backbone, adapter, tmp_path / "swappable.onnx")
    swappable = Session(tmp_path / "swappable.onnx")
    assert all(np.array_equal(one, other) for one, other in zip(outputs(swappable.run(INPUTS)), bare, strict=True))
    assert_close(outputs(swappable.run(INPUTS, adapter=swappable.load_adapter(adapter))), expected)

    graft_bank(backbone, adapter, tmp_path / "bank.onnx")
    bank = Session(tmp_path / "bank.onnx")
    name = bank.bank.add(adapter)
    mixed = [np.stack([one[0], other[1], one[2]]) for one, other in zip(expected, bare, strict=True)]
    assert_close(outputs(bank.run(INPUTS, adapter=[name, None, name])), mixed)

    for linkage in ("merged", "swappable", "bank"):
        report = verify(tmp_path / f"{linkage}.onnx", adapter)
        assert report.ok, report.as_text()
        assert report.head


@pytest.mark.spec("ONX-12", "LNK-5")
def test_another_number_of_columns_is_refused(
    backbone: Path, trained: tuple[Adapter, list[Array]], tmp_path: Path
) -> None:
    adapter, _ = trained
    head = adapter.config.head
    assert head is not None
    wide = replace(head, shapes={"qa_outputs.weight": (3, HIDDEN), "qa_outputs.bias": (3,)})
    tensors = {
        "head.qa_outputs.weight": np.ones((3, HIDDEN), np.float32),
        "head.qa_outputs.bias": np.ones(3, np.float32),
    }
    other = replace(adapter, config=replace(adapter.config, head=wide), tensors={**adapter.tensors, **tensors})
    for write in (graft, graft_swappable, graft_bank):
        with pytest.raises(CompacterError) as caught:
            write(backbone, other, tmp_path / "model.onnx")
        assert caught.value.code is ErrorCode.E604
    graft_swappable(backbone, adapter, tmp_path / "swappable.onnx")
    with pytest.raises(CompacterError) as caught:
        Session(tmp_path / "swappable.onnx").load_adapter(other)
    assert caught.value.code is ErrorCode.E604
