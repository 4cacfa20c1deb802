"""Regression: a text, or a pair of texts, to a number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from compacter_core.pytorch.training.encoding import EncodedDataset, encode, pairs_of
from compacter_core.pytorch.training.examples import Columns, checked, number_field, optional, text_field
from compacter_core.pytorch.training.metrics import OF_NUMBERS, Metric, Scores, with_average
from compacter_core.pytorch.training.named_tasks import NamedTask
from compacter_core.pytorch.training.tasks.strategy import Limits, Strategy, logits_of
from compacter_core.rows import Row


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A text, or pair of texts, with its number; `place` is where it was read."""

    text: str
    text_pair: str | None
    number: float
    place: str


@dataclass(frozen=True)
class Regression(Strategy[ScoredText]):
    """Regression with the squared error as the loss.

    Args:
        columns: where the parts of a row are.
        metrics: of the published task; None for the squared error, which is the goal, and both correlations.
    """

    columns: Columns
    metrics: tuple[Metric, ...] | None = None

    auto_class: ClassVar[Any] = AutoModelForSequenceClassification

    @classmethod
    def of(cls, train: Sequence[Row], columns: Columns, named: NamedTask | None) -> Self:
        """See `Strategy.of`."""
        if named is None:
            return cls(columns)
        return cls(columns, named.metrics)

    def parse(self, rows: Sequence[Row], source: str) -> list[ScoredText]:
        """See `Strategy.parse`."""
        columns = self.columns
        parsed = [
            ScoredText(
                text=text_field(row.fields, columns.text, row.place),
                text_pair=optional(text_field, row.fields, columns.text_pair, row.place),
                number=number_field(row.fields, columns.label, row.place),
                place=row.place,
            )
            for row in rows
        ]
        return checked(parsed, source)

    def encode(self, rows: Sequence[ScoredText], tokenizer: Any, limits: Limits, *, training: bool) -> EncodedDataset:
        """`labels` is the number."""
        pairs = pairs_of([row.text_pair for row in rows])
        return encode(tokenizer, [row.text for row in rows], pairs, [row.number for row in rows], limits.source)

    def collator(self, tokenizer: Any) -> Any:
        """Pads."""
        return DataCollatorWithPadding(tokenizer)

    def reduce(self, outputs: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """The answers, [rows]."""
        return logits_of(outputs).squeeze(-1)

    def score(self, reduced: NDArray[Any], labels: NDArray[Any], rows: Sequence[ScoredText], tokenizer: Any) -> Scores:
        """The published task's metrics, or all of numbers."""
        answers, truth = np.asarray(reduced, dtype=np.float64), np.asarray(labels, dtype=np.float64)
        scores = {name: OF_NUMBERS[name](answers, truth) for name in self.metrics or OF_NUMBERS}
        return scores if self.metrics is None else with_average(scores)

    @property
    def goal(self) -> Metric:
        """The squared error, or the mean of the published task's correlations."""
        return Metric.SQUARED_ERROR if self.metrics is None else Metric.AVERAGE

    def model_options(self) -> Mapping[str, Any]:
        """A head of one number."""
        return {"num_labels": 1, "problem_type": "regression"}
