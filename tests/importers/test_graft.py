"""From another library's checkpoint to ONNX Runtime in one command: the graph gives what that library computed."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch

from compacter_core.adapter import Array
from compacter_core.cli.main import main
from compacter_exporters.backbone import export_backbone
from compacter_exporters.choices import MODEL_FILE, Task
from compacter_runtime.decoder import GraphDecoder
from compacter_runtime.session import Session
from tests.exporters_backbone.backends import BACKENDS
from tests.importers.comparing import RELATIVE, Recorded, relative
from tests.importers.fixtures.tiny import build, inputs, save_backbone

Tokens = dict[str, Array]

FIXTURES: Final = Path(__file__).parent / "fixtures"
CASES: Final = {
    "opendelta/bert-compacter": ("opendelta", "BertForSequenceClassification", "bert", Task.TEXT_CLASSIFICATION),
    "opendelta/t5-compacter": ("opendelta", "T5ForConditionalGeneration", "t5", Task.TEXT2TEXT_GENERATION),
    "paper/compacter": ("compacter-paper", "T5ForConditionalGeneration", "t5", Task.TEXT2TEXT_GENERATION),
}


Exported = tuple[Path, Path]
"""A backbone's directory, and its graph or directory of graphs."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, Task], Exported]:
    """A backbone and its graphs by class, type and task; each is exported once."""

    @cache
    def make(model_class: str, model_type: str, task: Task) -> Exported:
        folder = tmp_path_factory.mktemp(model_class)
        backbone = save_backbone(build(model_class, model_type), folder / "backbone")
        return backbone, export_backbone(backbone, folder / "graphs", task=task, backend=BACKENDS[0])

    return make


@pytest.mark.parametrize("case", CASES)
def test_graphs_give_what_the_library_computed(
    exported: Callable[[str, str, Task], Exported], case: str, tmp_path: Path
) -> None:
    kind, model_class, model_type, task = CASES[case]
    backbone, graphs = exported(model_class, model_type, task)
    output = tmp_path / "merged" if graphs.is_dir() else tmp_path / "merged" / MODEL_FILE
    command = ["graft", graphs, FIXTURES / case, "-o", output, "--from", kind, "--trained-on", backbone]
    assert main([*map(str, command), "--allow-pickle"]) == 0
    run = _decode if task.generates else _classify
    tokens = {name: tensor.numpy() for name, tensor in inputs(build(model_class, model_type)).items()}
    recorded, limit = Recorded.load(FIXTURES / case), RELATIVE[torch.float32]
    assert relative(torch.from_numpy(run(output, tokens)), recorded.adapted) < limit
    assert relative(torch.from_numpy(run(graphs, tokens)), recorded.plain) < limit


def _classify(model: Path, tokens: Tokens) -> Array:
    """The logits of one graph."""
    ids = tokens["input_ids"]
    return Session(model).run({**tokens, "attention_mask": np.ones_like(ids), "token_type_ids": 0 * ids})["logits"]


def _decode(graphs: Path, tokens: Tokens) -> Array:
    """The logits of a decoder, and of the encoder before it if there is one, for all tokens at once."""
    decoder = GraphDecoder.load(graphs if graphs.is_dir() else graphs.parent)
    state = decoder.start(tokens["input_ids"], np.ones_like(tokens["input_ids"]))
    return decoder.step(tokens.get("decoder_input_ids", tokens["input_ids"]), state)
