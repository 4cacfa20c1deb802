"""Text to text: an encoder-decoder generates a target from a text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, DataCollatorForSeq2Seq

from compacter_core.pytorch.training.encoding import IGNORED, EncodedDataset, encode
from compacter_core.pytorch.training.examples import Columns
from compacter_core.pytorch.training.metrics import Metric, Scores
from compacter_core.pytorch.training.named_tasks import NamedTask
from compacter_core.pytorch.training.tasks.strategy import Limits, Strategy, logits_of
from compacter_core.pytorch.training.text_to_text import TextToText, format_named, score_named, score_texts
from compacter_core.rows import Row


@dataclass(frozen=True)
class Seq2Seq(Strategy[TextToText]):
    """Text to text, judged by what the model generates.

    Args:
        columns: where the parts of a row are.
        named: the published task; None for rows with a text and a target.
    """

    columns: Columns
    named: NamedTask | None = None

    auto_class: ClassVar[Any] = AutoModelForSeq2SeqLM
    generates: ClassVar[bool] = True
    adds_head: ClassVar[bool] = False

    @classmethod
    def of(cls, train: Sequence[Row], columns: Columns, named: NamedTask | None) -> Self:
        """See `Strategy.of`."""
        return cls(columns, named)

    def parse(self, rows: Sequence[Row], source: str) -> list[TextToText]:
        """See `Strategy.parse`."""
        named = self.named
        return [TextToText.of(row, self.columns) if named is None else format_named(row, named) for row in rows]

    def encode(self, rows: Sequence[TextToText], tokenizer: Any, limits: Limits, *, training: bool) -> EncodedDataset:
        """`labels` are the target's tokens; in training a row with several targets gives a row for each."""
        if training:
            rows = [replace(row, targets=(target,)) for row in rows for target in row.targets]
        targets = [row.targets[0] for row in rows]
        labels = tokenizer(text_target=targets, truncation=True, max_length=limits.target)["input_ids"]
        return encode(tokenizer, [row.text for row in rows], None, labels, limits.source)

    def collator(self, tokenizer: Any) -> Any:
        """Pads tokens and labels; the model shifts the labels itself."""
        return DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)

    def reduce(self, outputs: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """Not used: what is scored is generated."""
        return logits_of(outputs).argmax(-1)

    def score(self, reduced: NDArray[Any], labels: NDArray[Any], rows: Sequence[TextToText], tokenizer: Any) -> Scores:
        """The published task's metrics, or F1 of words and exact matches."""
        tokens = np.where(reduced < 0, tokenizer.pad_token_id, reduced)
        answers = [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        return score_texts(answers, rows) if self.named is None else score_named(answers, rows, self.named)

    @property
    def goal(self) -> Metric:
        """F1 of words, or what the published task is reported in."""
        if self.named is None:
            return Metric.WORD_F1
        return self.named.metrics[0] if len(self.named.metrics) == 1 else Metric.AVERAGE
