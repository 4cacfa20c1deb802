"""Causal language modelling: a decoder predicts the next token of a text, or of what follows a prompt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq

from compacter_core.pytorch.training.encoding import IGNORED, EncodedDataset, Features
from compacter_core.pytorch.training.examples import Columns, optional, text_field
from compacter_core.pytorch.training.metrics import Metric, Scores
from compacter_core.pytorch.training.named_tasks import NamedTask
from compacter_core.pytorch.training.tasks.strategy import Limits, Strategy, logits_of
from compacter_core.rows import Row


@dataclass(frozen=True, slots=True)
class Continued:
    """A text, and perhaps what follows it; then the text is a prompt, which counts for nothing."""

    text: str
    target: str | None
    place: str


@dataclass(frozen=True)
class CausalLM(Strategy[Continued]):
    """Next-token prediction.

    Args:
        columns: where the parts of a row are.
    """

    columns: Columns

    auto_class: ClassVar[Any] = AutoModelForCausalLM
    adds_head: ClassVar[bool] = False

    @classmethod
    def of(cls, train: Sequence[Row], columns: Columns, named: NamedTask | None) -> Self:
        """See `Strategy.of`."""
        return cls(columns)

    def parse(self, rows: Sequence[Row], source: str) -> list[Continued]:
        """See `Strategy.parse`."""
        columns = self.columns
        return [
            Continued(
                text=text_field(row.fields, columns.text, row.place),
                target=optional(text_field, row.fields, columns.target, row.place),
                place=row.place,
            )
            for row in rows
        ]

    def encode(self, rows: Sequence[Continued], tokenizer: Any, limits: Limits, *, training: bool) -> EncodedDataset:
        """`labels` are the tokens, with -100 for those of a prompt; each row ends with the end-of-text token.

        A text that is too long loses its end; a prompt loses its beginning, as far as the target needs the room.
        """
        encoded = [_encode(row, tokenizer, limits.source) for row in rows]
        features = tuple(one for one, _ in encoded)
        return EncodedDataset(
            features, tuple(len(one["input_ids"]) for one in features), sum(cut for _, cut in encoded)
        )

    def collator(self, tokenizer: Any) -> Any:
        """Pads tokens and labels."""
        return DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)

    def reduce(self, outputs: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """Per row the sum of -log p of the counted tokens, their number, and how many are the likeliest: [rows, 3]."""
        logits, wanted = logits_of(outputs)[:, :-1].float(), labels[:, 1:]
        counted = wanted != IGNORED
        losses = cross_entropy(logits.transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none")
        right = (logits.argmax(-1) == wanted) & counted
        return torch.stack([losses.sum(-1), counted.sum(-1), right.sum(-1)], dim=-1)

    def score(self, reduced: NDArray[Any], labels: NDArray[Any], rows: Sequence[Continued], tokenizer: Any) -> Scores:
        """Perplexity and accuracy, over all counted tokens alike."""
        loss, tokens, right = np.asarray(reduced, dtype=np.float64).sum(axis=0)
        return {Metric.PERPLEXITY: math.exp(min(loss / tokens, 700.0)), Metric.TOKEN_ACCURACY: right / tokens}

    @property
    def goal(self) -> Metric:
        """The perplexity."""
        return Metric.PERPLEXITY


def _encode(row: Continued, tokenizer: Any, max_length: int) -> tuple[Features, bool]:
    """A row's features, and whether it was cut."""
    prompt: list[int] = tokenizer(row.text, verbose=False)["input_ids"]
    if row.target is None:
        ids = [*prompt, *_end(tokenizer)]
        kept = ids[:max_length]
        return _features(kept, kept), len(kept) < len(ids)
    completion = [*tokenizer(row.target, add_special_tokens=False, verbose=False)["input_ids"], *_end(tokenizer)]
    # One token of the prompt stays: the first counted token has to be predicted from something.
    target = completion[: max_length - 1]
    start = prompt[-(max_length - len(target)) :]
    ids = [*start, *target]
    return _features(ids, [IGNORED] * len(start) + target), len(ids) < len(prompt) + len(completion)


def _end(tokenizer: Any) -> list[int]:
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def _features(ids: list[int], labels: list[int]) -> Features:
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": list(labels)}
