"""Backbones as graphs, and what a graph computes with an adapter that came from AdapterHub."""

from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from compacter_core.adapter import Adapter
from compacter_exporters.backbone import export_backbone
from compacter_exporters.choices import MODEL_FILE, Backend, Task
from compacter_exporters.graft import graft
from compacter_exporters.graft_set import graft_directory
from compacter_runtime.decoder import GraphDecoder
from tests.interop_adapterhub.sources import Source

TASKS: Final = {
    "ForSequenceClassification": Task.TEXT_CLASSIFICATION,
    "ForTokenClassification": Task.TOKEN_CLASSIFICATION,
    "ForImageClassification": Task.IMAGE_CLASSIFICATION,
    "ForConditionalGeneration": Task.TEXT2TEXT_GENERATION,
    "ForCausalLM": Task.TEXT_GENERATION,
    "LMHeadModel": Task.TEXT_GENERATION,
    "Model": Task.FEATURE_EXTRACTION,
}
"""What a class ends in, to the task that its graph is exported for; the first one that fits."""


def task_of(model_class: str) -> Task:
    """The task of a class of transformers."""
    return next(task for suffix, task in TASKS.items() if model_class.endswith(suffix))


def export(source: Source, folder: Path) -> Path:
    """The graph, or the directory of graphs, of a backbone.

    Raises:
        CompacterError: what the exporter raises.
    """
    task = task_of(source.model_class)
    return export_backbone(source.backbone, folder / "graphs", task=task, backend=Backend.OPTIMUM)


def merge(graphs: Path, adapter: Adapter, file: Path, output: Path) -> Path:
    """The graph, or the directory of graphs, with an adapter in it.

    Args:
        graphs: from `export`.
        adapter: to merge.
        file: of the adapter.
        output: directory to write.

    Raises:
        CompacterError: what grafting raises.
    """
    if graphs.is_dir():
        graft_directory(graphs, adapter, output)
        return output
    graft(graphs, file, output / MODEL_FILE)
    return output / MODEL_FILE


def output_name(model_class: str) -> str:
    """The output that is compared."""
    return "last_hidden_state" if task_of(model_class) is Task.FEATURE_EXTRACTION else "logits"


def run_graph(graphs: Path, source: Source) -> Tensor:
    """The output of a graph, or of an encoder and its decoder, for the source's inputs."""
    inputs = {name: tensor.numpy() for name, tensor in source.inputs.items()}
    if task_of(source.model_class).generates:
        decoder = GraphDecoder.load(graphs if graphs.is_dir() else graphs.parent)
        tokens = inputs["input_ids"]
        state = decoder.start(tokens, np.ones_like(tokens))
        return torch.from_numpy(decoder.step(inputs.get("decoder_input_ids", tokens), state))
    session = onnxruntime.InferenceSession(graphs, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    if "input_ids" in inputs:
        inputs |= {"attention_mask": np.ones_like(inputs["input_ids"]), "token_type_ids": inputs["input_ids"] * 0}
    feed = {name: array for name, array in inputs.items() if name in wanted}
    (output,) = session.run([output_name(source.model_class)], feed)
    return torch.from_numpy(output)


def greedy(graphs: Path, prompt: Tensor, start: int, steps: int) -> list[list[int]]:
    """What an encoder-decoder's graphs write, token by token."""
    decoder = GraphDecoder.load(graphs)
    tokens = prompt.numpy()
    state = decoder.start(tokens, np.ones_like(tokens))
    latest = np.full((len(tokens), 1), start, dtype=np.int64)
    written = [latest]
    for _ in range(steps):
        latest = decoder.step(latest, state)[:, -1:].argmax(-1)
        written.append(latest)
    found: list[list[int]] = np.concatenate(written, axis=1).tolist()
    return found
