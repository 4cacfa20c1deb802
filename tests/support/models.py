"""Tiny random transformers models with seeds, one per bound architecture."""

from typing import Any

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

HIDDEN = 16
LAYERS = 2
VOCABULARY = 50
MODEL_TYPES = ("bert", "roberta", "distilbert")

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
    model_type: str, task: str = "text-classification", *, seed: int = 0, num_labels: int = 3, dropout: float = 0.0
) -> Any:
    """A random model in evaluation mode; norms and biases are moved off their neutral initial values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        outputs = 2 if task == "question-answering" else num_labels
        model = _CLASSES[task].from_config(tiny_config(model_type, num_labels=outputs, dropout=dropout))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.add_(torch.randn_like(parameter) * (0.2 if parameter.ndim == 1 else 0.1))
                if "embedding" in name and parameter.ndim > 1:
                    parameter.mul_(3.0)
    return model.eval()


def tiny_inputs(*, batch: int = 3, length: int = 7, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tokens; the last row is padded."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, VOCABULARY, (batch, length), generator=generator)
    mask = torch.ones_like(tokens)
    mask[-1, length // 2 :] = 0
    return {"input_ids": tokens, "attention_mask": mask}
