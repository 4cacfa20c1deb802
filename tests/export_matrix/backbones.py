"""Tiny random backbones, each with an adapter that looks trained, and what PyTorch computes with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

from compacter_core.adapter import Adapter, Array
from compacter_core.pytorch import detach
from compacter_exporters.choices import Task
from tests.exporters_backbone.generators import generated, tiny_generator, trained
from tests.pytorch.helpers import attach_trained
from tests.support.backbones import BACKBONES, VOCABULARY, randomise

TASKS: Final = {
    "bert": Task.TEXT_CLASSIFICATION,
    "roberta": Task.TEXT_CLASSIFICATION,
    "distilbert": Task.TEXT_CLASSIFICATION,
    "electra": Task.TEXT_CLASSIFICATION,
    "deberta-v2": Task.TEXT_CLASSIFICATION,
    "xlm-roberta": Task.TEXT_CLASSIFICATION,
    "albert": Task.TEXT_CLASSIFICATION,
    "vit": Task.IMAGE_CLASSIFICATION,
    "gpt2": Task.TEXT_GENERATION,
    "llama": Task.TEXT_GENERATION,
    "mistral": Task.TEXT_GENERATION,
    "qwen2": Task.TEXT_GENERATION,
    "qwen3": Task.TEXT_GENERATION,
    "phi3": Task.TEXT_GENERATION,
    "gemma": Task.TEXT_GENERATION,
    "t5": Task.TEXT2TEXT_GENERATION,
    "mt5": Task.TEXT2TEXT_GENERATION,
    "bart": Task.TEXT2TEXT_GENERATION,
    "mbart": Task.TEXT2TEXT_GENERATION,
}
"""Architecture to the task that it is exported for: the first axis."""

_LABELS: Final = 3
_ROWS: Final = 32
_LENGTH: Final = 9


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """What PyTorch computes.

    Args:
        logits: of the inputs at once: [rows, labels], or [rows, tokens, vocabulary].
        written: tokens of greedy generation, behind the prompt for a decoder alone; None without generation.
    """

    logits: Array
    written: list[list[int]] | None


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A backbone.

    Args:
        task: what it is exported for.
        model: the PyTorch model, without the adapter.
        checkpoint: where it is saved.
        adapter: trained on it, with norms and, for a classifier, the head.
        inputs: what the model reads, by name; with the tokens already written for one that generates.
        prompts: what a generation begins with.
        alone: what PyTorch computes without the adapter.
        adapted: and with it.
    """

    task: Task
    model: Any
    checkpoint: Path
    adapter: Adapter
    inputs: dict[str, torch.Tensor]
    prompts: torch.Tensor | None
    alone: Computed
    adapted: Computed


def make_backbone(name: str, folder: Path) -> Backbone:
    """The backbone of that name; everything about it is drawn from fixed seeds."""
    task, checkpoint = TASKS[name], folder / "checkpoint"
    if task.generates:
        return _generator(task, tiny_generator(name, checkpoint), checkpoint)
    auto: Any = AutoModelForImageClassification if name == "vit" else AutoModelForSequenceClassification
    options = {"vocab_size": VOCABULARY, "num_labels": _LABELS, "pad_token_id": 0} | BACKBONES[name]
    with torch.random.fork_rng(devices=[]):
        model = auto.from_config(AutoConfig.for_model(name, **options)).eval()
    randomise(model)
    model.save_pretrained(checkpoint)
    generator = torch.Generator().manual_seed(0)
    if task is Task.IMAGE_CLASSIFICATION:
        size = model.config.image_size
        inputs = {"pixel_values": torch.randn(_ROWS, model.config.num_channels, size, size, generator=generator)}
    else:
        tokens = torch.randint(5, VOCABULARY, (_ROWS, _LENGTH), generator=generator)
        mask = torch.ones_like(tokens)
        mask[1::2, -2:] = 0
        inputs = {"input_ids": tokens, "attention_mask": mask}
    alone = Computed(_logits(model, inputs), None)
    adapter = attach_trained(model).to_adapter()
    adapted = Computed(_logits(model, inputs), None)
    detach(model)
    return Backbone(task, model, checkpoint, adapter, inputs, None, alone, adapted)


def _generator(task: Task, model: Any, checkpoint: Path) -> Backbone:
    generator = torch.Generator().manual_seed(5)
    prompts = torch.randint(3, VOCABULARY, (_ROWS, 7), generator=generator)
    bare = generated(model, prompts, beams=1)
    adapter = trained(model)
    written = generated(model, prompts, beams=1)
    reads = {"input_ids": prompts, "decoder_input_ids": written} if model.config.is_encoder_decoder else {}
    inputs = reads or {"input_ids": written}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    adapted = Computed(_logits(model, inputs), written.tolist())
    detach(model)
    alone = Computed(_logits(model, inputs), bare.tolist())
    return Backbone(task, model, checkpoint, adapter, inputs, prompts, alone, adapted)


def _logits(model: Any, inputs: dict[str, torch.Tensor]) -> Array:
    with torch.no_grad():
        return np.asarray(model(**inputs).logits.numpy())
