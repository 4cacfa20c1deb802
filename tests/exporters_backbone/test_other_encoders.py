"""Classifiers that the exporter has no code for: they graft and verify."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch import describe_backbone, save_pretrained
from compacter_exporters.backbone import export_backbone
from compacter_exporters.choices import Backend
from compacter_exporters.graft import graft
from compacter_exporters.graph import depends_on_inputs, load_graph
from compacter_exporters.graph_check import RELATIVE_LIMIT
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.loaded_graph import load_backbone
from compacter_exporters.norms import between, find_norms
from compacter_exporters.verify import verify
from compacter_runtime import Session
from tests.exporters.optimised import How, optimise
from tests.exporters_backbone.backends import BACKENDS
from tests.exporters_backbone.table_norm import keeping_table_norm
from tests.pytorch.helpers import attach_trained, logits
from tests.support.backbones import BACKBONES, VOCABULARY

# optimum's graphs spell out the GELU in the heads of ELECTRA and DeBERTa.
ROWS = 3
GRAFTED = ["deberta-v2", "electra", "llama", "xlm-roberta"]


@pytest.fixture
def classifier(request: pytest.FixtureRequest) -> Any:
    """A random model with three classes."""
    options = {"vocab_size": VOCABULARY, "num_labels": 3, "pad_token_id": 0, **BACKBONES[request.param]}
    config = AutoConfig.for_model(request.param, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_config(config).eval()


def write_both(model: Any, folder: Path) -> tuple[Path, Path]:
    """The exported backbone, and an adapter that looks trained."""
    model.save_pretrained(folder / "checkpoint")
    backbone = export_backbone(folder / "checkpoint", folder / "onnx", backend=BACKENDS[0])
    attach_trained(model)
    save_pretrained(model, folder / "adapter")
    return backbone, folder / "adapter"


@pytest.mark.parametrize("classifier", GRAFTED, indirect=True)
def test_graft_and_verify(classifier: Any, tmp_path: Path) -> None:
    backbone, adapter = write_both(classifier, tmp_path)
    merged = tmp_path / "onnx/merged.onnx"
    graft(backbone, adapter, merged)
    assert verify(merged, adapter).ok
    assert_same_logits(Session(merged), classifier)


@pytest.mark.parametrize("classifier", ["deberta-v2"], indirect=True)
def test_a_norm_of_a_constant_table_has_no_rows(classifier: Any, tmp_path: Path) -> None:
    backbone, adapter = write_both(classifier, tmp_path)
    with pytest.raises(CompacterError, match="constant table") as caught:
        graft_bank(backbone, adapter, tmp_path / "onnx/bank.onnx")
    assert caught.value.code is ErrorCode.E605
    assert not (tmp_path / "onnx/bank.onnx").exists()


@pytest.mark.spec("ONX-43")
@pytest.mark.parametrize(
    ("write", "choose"),
    [
        (graft, lambda _session, _adapter: None),
        (graft_swappable, lambda session, adapter: session.load_adapter(adapter)),
        (graft_bank, lambda session, adapter: [session.bank.add(adapter)] * ROWS),
    ],
)
@pytest.mark.parametrize("classifier", ["deberta-v2"], indirect=True)
def test_a_norm_that_an_optimiser_computed(
    classifier: Any, write: Callable[..., Any], choose: Callable[..., Any], tmp_path: Path
) -> None:
    classifier.save_pretrained(tmp_path / "checkpoint")
    exported = export_backbone(tmp_path / "checkpoint", tmp_path / "onnx", backend=BACKENDS[0])
    backbone = optimise(exported, How.EXTENDED, tmp_path / "backbone.onnx")
    adapter = keeping_table_norm(classifier)
    assert len(find_norms(load_backbone(backbone).graph)) == len(find_norms(load_backbone(exported).graph)) - 1
    write(backbone, adapter, tmp_path / "merged.onnx")
    report = verify(tmp_path / "merged.onnx", adapter)
    assert report.ok, report.as_text()
    assert len(report.norms) == len(describe_backbone(classifier).norms) - 1
    assert_same_logits(Session(tmp_path / "merged.onnx"), classifier, lambda session: choose(session, adapter))


@pytest.mark.spec("ONX-43")
@pytest.mark.parametrize("classifier", ["deberta-v2"], indirect=True)
def test_a_norm_that_an_optimiser_computed_cannot_be_replaced(classifier: Any, tmp_path: Path) -> None:
    backbone, adapter = write_both(classifier, tmp_path)
    optimise(backbone, How.EXTENDED, tmp_path / "backbone.onnx")
    with pytest.raises(CompacterError, match="computed the norm of a constant table") as caught:
        graft(tmp_path / "backbone.onnx", adapter, tmp_path / "merged.onnx")
    assert caught.value.code is ErrorCode.E604


@pytest.mark.spec("ONX-43")
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("classifier", ["deberta-v2"], indirect=True)
def test_the_norm_of_a_table_may_stand_anywhere(classifier: Any, first: bool, tmp_path: Path) -> None:
    backbone, adapter = write_both(classifier, tmp_path)
    model = load_graph(backbone)
    table, embeddings = sorted(find_norms(model.graph)[:2], key=lambda norm: depends_on_inputs(norm.input))
    moved = between(table.input, table.output)
    model.graph.remove(moved)
    place = model.graph[0] if first else embeddings.output.consumers()[0]
    model.graph.insert_before(place, moved)
    ir.save(model, backbone.with_name("moved.onnx"))
    order = [depends_on_inputs(norm.input) for norm in find_norms(load_graph(backbone.with_name("moved.onnx")).graph)]
    assert order[:2] == [not first, first]
    graft(backbone.with_name("moved.onnx"), adapter, tmp_path / "merged.onnx")
    assert verify(tmp_path / "merged.onnx", adapter).ok
    assert_same_logits(Session(tmp_path / "merged.onnx"), classifier)


def assert_same_logits(session: Session, model: Any, choose: Callable[[Session], Any] = lambda _: None) -> None:
    """The graph's logits, with the adapter that is chosen, are the model's."""
    tokens = np.random.default_rng(0).integers(5, VOCABULARY, (ROWS, 7))
    inputs = {name: np.zeros_like(tokens) for name in session.input_names} | {"attention_mask": np.ones_like(tokens)}
    with torch.no_grad():
        expected = logits(model, {"input_ids": torch.from_numpy(tokens)}).numpy()
    got = session.run(inputs | {"input_ids": tokens}, adapter=choose(session))["logits"]
    assert np.abs(got - expected).max() <= RELATIVE_LIMIT * np.abs(expected).max()


@pytest.mark.parametrize("classifier", ["bart"], indirect=True)
def test_a_classifier_that_reads_the_end_of_the_text(classifier: Any, tmp_path: Path) -> None:
    classifier.save_pretrained(tmp_path / "checkpoint")
    if BACKENDS[0] is not Backend.OPTIMUM:
        # torch.export does not know how many ends a row has.
        with pytest.raises(CompacterError) as caught:
            export_backbone(tmp_path / "checkpoint", tmp_path / "onnx", backend=BACKENDS[0])
        assert caught.value.code is ErrorCode.E605
        return
    backbone = export_backbone(tmp_path / "checkpoint", tmp_path / "onnx", backend=BACKENDS[0])
    tokens = np.random.default_rng(0).integers(5, VOCABULARY, (3, 7))
    tokens[:, -1] = classifier.config.eos_token_id
    with torch.no_grad():
        expected = classifier(torch.from_numpy(tokens)).logits.numpy()
    got = Session(backbone).run({"input_ids": tokens, "attention_mask": np.ones_like(tokens)})["logits"]
    assert np.abs(got - expected).max() <= RELATIVE_LIMIT * np.abs(expected).max()
