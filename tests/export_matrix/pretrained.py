"""A real backbone: the quickstart's MiniLM with adapters trained as the quickstart does, and its test rows with labels.

    python -m tests.export_matrix.pretrained

makes what the row needs, in the quickstart's own directory: the backbone, the data, and two adapters, one of them
without an activation. What is there is not made again. Without it the matrix goes without this row.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from transformers import AutoTokenizer

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError
from compacter_core.format.reader import load_adapter
from compacter_core.pytorch.training import LOG_FILE, Columns, read_file
from compacter_core.vocabulary import Activation
from compacter_exporters.choices import Task
from compacter_exporters.source_model import load_source
from examples.quickstart.docstrings import split_paths
from examples.quickstart.stages import ADAPTER, POOLING, Stages
from tests.export_matrix.backbones import ACTIVATIONS, Backbone, Computed, compute_logits

NAME: Final = "MiniLM, trained"
"""Its value on the first axis."""

DIRECTORY: Final = Path("build/quickstart")
ROWS: Final = 256
LENGTH: Final = 32
"""Tokens of a row; of one in forty more are cut off, since all rows are as long as the longest."""

_BACKBONE: Final = "backbone"
_TASK: Final = Task.TEXT_CLASSIFICATION


def is_here(directory: Path = DIRECTORY) -> bool:
    """Whether everything is there that the row needs."""
    inputs = [directory / _BACKBONE, *split_paths(directory / "data").values()]
    if not all(path.exists() for path in inputs):
        return False
    return all((path / LOG_FILE).is_file() for path in _adapters(Stages(directory)).values())


def make_pretrained(folder: Path, directory: Path = DIRECTORY) -> Backbone:
    """The backbone of the row, whose graphs are for `folder`.

    Raises:
        CompacterError: E403 if the weights are not the official ones.
    """
    stages = Stages(directory)
    adapters = {activation: load_adapter(path) for activation, path in _adapters(stages).items()}
    return labelled_backbone(stages.backbone(), adapters, stages.data()["test"], folder)


def labelled_backbone(checkpoint: Path, adapters: Mapping[Activation, Adapter], rows: Path, folder: Path) -> Backbone:
    """A backbone with adapters that have a head, and the first rows of a file of labelled texts.

    The head of the backbone alone is not trained.
    """
    # Exporters write beside the checkpoint.
    own = folder / "checkpoint"
    own.symlink_to(checkpoint.absolute(), target_is_directory=True)
    examples = read_file(rows, Columns())[:ROWS]
    tokenizer = AutoTokenizer.from_pretrained(own)
    texts = [row.text for row in examples]
    tokens = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    model = load_source(own, _TASK, pooling=POOLING).model
    computed: dict[Activation | None, Computed] = {None: Computed(compute_logits(model, inputs), None)}
    for activation, adapter in adapters.items():
        computed[activation] = Computed(compute_logits(load_source(own, _TASK, adapter).model, inputs), None)
    labels = next(adapter.config.head.labels for adapter in adapters.values() if adapter.config.head is not None)
    truth = np.array([labels.index(row.label) for row in examples])
    return Backbone(_TASK, model, own, inputs, None, adapters, computed, POOLING, truth)


def _adapters(stages: Stages) -> dict[Activation, Path]:
    """Where the adapter of each activation lies, or would lie."""
    return {
        activation: stages.output(stages.settings(replace(ADAPTER, non_linearity=activation)))
        for activation in ACTIVATIONS
    }


def main() -> int:
    """Make what is missing; 0, or 2 if that cannot be."""
    stages = Stages(DIRECTORY)
    try:
        for activation in ACTIVATIONS:
            result = stages.trained(stages.settings(replace(ADAPTER, non_linearity=activation)))
            print(json.dumps({"activation": activation, "adapter": str(result.output)}))
    except CompacterError as error:
        print(f"pretrained: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
