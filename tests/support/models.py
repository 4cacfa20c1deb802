"""Tiny random transformers models with seeds, one per bound architecture."""

from typing import Any
from zlib import crc32

import torch
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DistilBertConfig,
    RobertaConfig,
)

from compacter_core.methods import METHODS, Method

HIDDEN = 16
LAYERS = 2
VOCABULARY = 50
MODEL_TYPES = ("bert", "roberta", "distilbert")
# AdapterDrop has no site in models of so few layers.
TINY_METHODS = tuple(method for method in Method if METHODS[method].first_layer < LAYERS)

_CLASSES = {
    "base": AutoModel,
    "text-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "question-answering": AutoModelForQuestionAnswering,
}
TASKS = tuple(_CLASSES)


def tiny_config(model_type: str, *, num_labels: int = 3, dropout: float = 0.0, layers: int = LAYERS) -> Any:
    """Configuration of a model with d = 16."""
    common = {"vocab_size": VOCABULARY, "max_position_embeddings": 40, "num_labels": num_labels, "pad_token_id": 0}
    if model_type == "distilbert":
        return DistilBertConfig(
            dim=HIDDEN,
            n_layers=layers,
            n_heads=2,
            hidden_dim=24,
            dropout=dropout,
            attention_dropout=dropout,
            seq_classif_dropout=dropout,
            **common,
        )
    kind = {"bert": BertConfig, "roberta": RobertaConfig}[model_type]
    return kind(
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=24,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **common,
    )


def tiny_model(
    model_type: str,
    task: str = "text-classification",
    *,
    seed: int = 0,
    num_labels: int = 3,
    dropout: float = 0.0,
    layers: int = LAYERS,
) -> Any:
    """A random model in evaluation mode, with norms and biases off their neutral values.

    A parameter's values depend on the seed and on its name in the base model alone: models for different tasks, or with
    different heads, have the same backbone.
    """
    outputs = 2 if task == "question-answering" else num_labels
    config = tiny_config(model_type, num_labels=outputs, dropout=dropout, layers=layers)
    with torch.random.fork_rng(devices=[]):
        model = _CLASSES[task].from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _fill(name.removeprefix(f"{model.base_model_prefix}."), parameter, seed)
    return model.eval()


def _fill(name: str, parameter: torch.Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(crc32(f"{seed}:{name}".encode()))
    noise = torch.randn(parameter.shape, generator=generator)
    is_gain = parameter.ndim == 1 and name.endswith("weight")
    parameter.copy_(1 + 0.2 * noise if is_gain else 0.3 * noise)


def tiny_inputs(*, batch: int = 3, length: int = 7, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tokens; the last row is padded."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, VOCABULARY, (batch, length), generator=generator)
    mask = torch.ones_like(tokens)
    mask[-1, length // 2 :] = 0
    return {"input_ids": tokens, "attention_mask": mask}
