"""Text classification: a text, or a pair of texts, to one of the classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from compacter_core.pytorch.training.encoding import EncodedDataset, encode, pairs_of
from compacter_core.pytorch.training.examples import Columns, Example, checked
from compacter_core.pytorch.training.labels import Labels
from compacter_core.pytorch.training.metrics import OF_CLASSES, Metric, Scores, with_average
from compacter_core.pytorch.training.named_tasks import NamedTask
from compacter_core.pytorch.training.tasks.strategy import Limits, Strategy, logits_of
from compacter_core.rows import Row


@dataclass(frozen=True)
class Classification(Strategy[Example]):
    """Text classification.

    Args:
        columns: where the parts of a row are.
        classes: of the training rows, or of the published task.
        metrics: of the published task; None for accuracy and macro F1, with accuracy as the goal.
    """

    columns: Columns
    classes: Labels
    metrics: tuple[Metric, ...] | None = None

    auto_class: ClassVar[Any] = AutoModelForSequenceClassification

    @classmethod
    def of(cls, train: Sequence[Row], columns: Columns, named: NamedTask | None) -> Self:
        """See `Strategy.of`."""
        if named is None:
            examples = [Example.from_fields(row.fields, columns, row.place) for row in train]
            return cls(columns, Labels.of(examples))
        return cls(columns, Labels(named.labels), named.metrics)

    def parse(self, rows: Sequence[Row], source: str) -> list[Example]:
        """See `Strategy.parse`."""
        examples = checked([Example.from_fields(row.fields, self.columns, row.place) for row in rows], source)
        for example in examples:
            self.classes.index(example)
        return examples

    def encode(self, rows: Sequence[Example], tokenizer: Any, limits: Limits, *, training: bool) -> EncodedDataset:
        """`labels` is the class number."""
        numbers = [self.classes.index(row) for row in rows]
        pairs = pairs_of([row.text_pair for row in rows])
        return encode(tokenizer, [row.text for row in rows], pairs, numbers, limits.source)

    def collator(self, tokenizer: Any) -> Any:
        """Pads."""
        return DataCollatorWithPadding(tokenizer)

    def reduce(self, outputs: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """The answers, [rows]."""
        return logits_of(outputs).argmax(-1)

    def score(self, reduced: NDArray[Any], labels: NDArray[Any], rows: Sequence[Example], tokenizer: Any) -> Scores:
        """The published task's metrics, or accuracy and macro F1."""
        names = self.metrics or (Metric.ACCURACY, Metric.MACRO_F1)
        scores = {name: OF_CLASSES[name](np.asarray(reduced), np.asarray(labels)) for name in names}
        return scores if self.metrics is None else with_average(scores)

    @property
    def goal(self) -> Metric:
        """Accuracy, or what the published task is reported in."""
        if self.metrics is None:
            return Metric.ACCURACY
        return self.metrics[0] if len(self.metrics) == 1 else Metric.AVERAGE

    @property
    def labels(self) -> tuple[str, ...]:
        """See `Strategy.labels`."""
        return self.classes.names

    def model_options(self) -> Mapping[str, Any]:
        """A head for the classes, which the model's configuration names."""
        return self.classes.model_options()
