"""Tiny random backbones, each with an adapter that looks trained, and what PyTorch computes with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

from compacter_core.adapter import Adapter, Array
from compacter_core.config import AdapterConfig
from compacter_core.pytorch import detach
from compacter_core.vocabulary import Activation, Pooling
from compacter_exporters.choices import Task
from tests.exporters_backbone.generators import generated, tiny_generator, trained
from tests.exporters_backbone.table_norm import keeping_table_norm
from tests.pytorch.helpers import attach_trained, tiny_adapter_config
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

ACTIVATIONS: Final = (Activation.GELU_NEW, Activation.IDENTITY)
"""Of the adapters: the usual one, and none, since some linkages need that."""

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
        model: the PyTorch model, without an adapter.
        checkpoint: where it is saved.
        inputs: what the model reads, by name; with the tokens already written for one that generates.
        prompts: what a generation begins with.
        adapters: one for each of some activations, with norms and, for a classifier, the head.
        computed: what PyTorch computes with each of them, and without: None.
        pooling: what the head reads in place of a pooler's output.
        truth: of each row the right label's number, where the rows are real and the adapters trained on their like.
    """

    task: Task
    model: Any
    checkpoint: Path
    inputs: dict[str, torch.Tensor]
    prompts: torch.Tensor | None
    adapters: Mapping[Activation, Adapter]
    computed: Mapping[Activation | None, Computed]
    pooling: Pooling | None = None
    truth: Array | None = None


def make_backbone(name: str, folder: Path) -> Backbone:
    """The backbone of that name; everything about it is drawn from fixed seeds."""
    task, checkpoint = TASKS[name], folder / "checkpoint"
    generator = torch.Generator().manual_seed(5)
    prompts = torch.randint(3, VOCABULARY, (_ROWS, 7), generator=generator) if task.generates else None
    model = tiny_generator(name, checkpoint) if task.generates else _classifier(name, checkpoint)
    written = _written(model, prompts)
    inputs = _inputs(model, written, prompts, generator)
    adapters: dict[Activation, Adapter] = {}
    computed: dict[Activation | None, Computed] = {None: Computed(compute_logits(model, inputs), _listed(written))}
    for activation in ACTIVATIONS:
        if task.generates:
            adapters[activation] = trained(model, non_linearity=activation)
        else:
            adapters[activation] = _of_classifier(model, tiny_adapter_config(model, non_linearity=activation))
        computed[activation] = Computed(compute_logits(model, inputs), _listed(_written(model, prompts)))
        detach(model)
    return Backbone(task, model, checkpoint, inputs, prompts, adapters, computed)


def _of_classifier(model: Any, config: AdapterConfig) -> Adapter:
    # Optimisers compute the norm of DeBERTa's table, and in a bank it has no rows: adapters of it are refused.
    has_table = model.config.model_type == "deberta-v2"
    return keeping_table_norm(model, config) if has_table else attach_trained(model, config).to_adapter()


def _classifier(name: str, checkpoint: Path) -> Any:
    auto: Any = AutoModelForImageClassification if name == "vit" else AutoModelForSequenceClassification
    options = {"vocab_size": VOCABULARY, "num_labels": _LABELS, "pad_token_id": 0} | BACKBONES[name]
    with torch.random.fork_rng(devices=[]):
        model = auto.from_config(AutoConfig.for_model(name, **options)).eval()
    randomise(model)
    model.save_pretrained(checkpoint)
    return model


def _inputs(
    model: Any, written: torch.Tensor | None, prompts: torch.Tensor | None, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    if model.main_input_name == "pixel_values":
        size = model.config.image_size
        return {"pixel_values": torch.randn(_ROWS, model.config.num_channels, size, size, generator=generator)}
    if written is None or prompts is None:
        tokens = torch.randint(5, VOCABULARY, (_ROWS, _LENGTH), generator=generator)
        mask = torch.ones_like(tokens)
        mask[1::2, -2:] = 0
        return {"input_ids": tokens, "attention_mask": mask}
    tokens = prompts if model.config.is_encoder_decoder else written
    behind = {"decoder_input_ids": written} if model.config.is_encoder_decoder else {}
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **behind}


def _written(model: Any, prompts: torch.Tensor | None) -> torch.Tensor | None:
    return None if prompts is None else generated(model, prompts, beams=1)


def _listed(tokens: torch.Tensor | None) -> list[list[int]] | None:
    return None if tokens is None else tokens.tolist()


def compute_logits(model: Any, inputs: dict[str, torch.Tensor]) -> Array:
    """What the PyTorch model makes of the inputs."""
    with torch.no_grad():
        return np.asarray(model(**inputs).logits.numpy())
