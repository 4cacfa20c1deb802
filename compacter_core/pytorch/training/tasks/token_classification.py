"""Token classification: every word of a text to one of the classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training.encoding import IGNORED, EncodedDataset
from compacter_core.pytorch.training.examples import Columns, as_label, field
from compacter_core.pytorch.training.labels import Labels
from compacter_core.pytorch.training.metrics import Metric, Scores, accuracy, entity_f1
from compacter_core.pytorch.training.named_tasks import NamedTask
from compacter_core.pytorch.training.tasks.strategy import Limits, Strategy, logits_of
from compacter_core.rows import Row


@dataclass(frozen=True, slots=True)
class TaggedWords:
    """Words with a tag each; `place` is where they were read."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    place: str


@dataclass(frozen=True)
class TokenClassification(Strategy[TaggedWords]):
    """A word's label stands on its first token; its other tokens, and special ones, count for nothing.

    Args:
        columns: where the parts of a row are.
        classes: the tags of the training rows.
    """

    columns: Columns
    classes: Labels

    auto_class: ClassVar[Any] = AutoModelForTokenClassification

    @classmethod
    def of(cls, train: Sequence[Row], columns: Columns, named: NamedTask | None) -> Self:
        """See `Strategy.of`."""
        names = {tag for row in train for tag in _read(row, columns).tags}
        return cls(columns, Labels.of_names(names))

    def parse(self, rows: Sequence[Row], source: str) -> list[TaggedWords]:
        """See `Strategy.parse`."""
        parsed = [_read(row, self.columns) for row in rows]
        for row in parsed:
            for tag in row.tags:
                self.classes.number(tag, row.place)
        return parsed

    def encode(self, rows: Sequence[TaggedWords], tokenizer: Any, limits: Limits, *, training: bool) -> EncodedDataset:
        """`labels` is a list like the tokens: the class number on a word's first token, -100 elsewhere."""
        encoded = tokenizer(
            [list(row.words) for row in rows], is_split_into_words=True, truncation=True, max_length=limits.source
        )
        features, truncated = [], 0
        for index, row in enumerate(rows):
            words: list[int | None] = encoded.word_ids(index)
            labels = [
                IGNORED if word is None or word == before else self.classes.number(row.tags[word], row.place)
                for word, before in zip(words, [None, *words], strict=False)
            ]
            features.append({name: values[index] for name, values in encoded.items()} | {"labels": labels})
            truncated += max((word for word in words if word is not None), default=-1) < len(row.words) - 1
        return EncodedDataset(tuple(features), tuple(len(one["labels"]) for one in features), truncated)

    def collator(self, tokenizer: Any) -> Any:
        """Pads tokens and labels."""
        return DataCollatorForTokenClassification(tokenizer, label_pad_token_id=IGNORED)

    def reduce(self, outputs: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """The answers, [rows, tokens]."""
        return logits_of(outputs).argmax(-1)

    def score(self, reduced: NDArray[Any], labels: NDArray[Any], rows: Sequence[TaggedWords], tokenizer: Any) -> Scores:
        """F1 of entities, and accuracy of words; words behind the maximum length are left out."""
        counted = labels != IGNORED
        names = self.classes.names
        answers = [[names[one] for one in row[mask]] for row, mask in zip(reduced, counted, strict=True)]
        truth = [[names[one] for one in row[mask]] for row, mask in zip(labels, counted, strict=True)]
        return {
            Metric.ENTITY_F1: entity_f1(answers, truth),
            Metric.ACCURACY: accuracy(np.asarray(reduced)[counted], labels[counted]),
        }

    @property
    def goal(self) -> Metric:
        """The F1 of entities."""
        return Metric.ENTITY_F1

    @property
    def labels(self) -> tuple[str, ...]:
        """See `Strategy.labels`."""
        return self.classes.names

    def model_options(self) -> Mapping[str, Any]:
        """A head for the tags."""
        return self.classes.model_options()

    def tokenizer_options(self) -> Mapping[str, Any]:
        """Byte-level tokenizers need it for words; the others do not mind."""
        return {"add_prefix_space": True}


def _read(row: Row, columns: Columns) -> TaggedWords:
    """The words and tags of a row.

    Raises:
        CompacterError: E801 unless they are lists of the same length, of texts and of classes.
    """
    words, tags = _list(row, columns.tokens), _list(row, columns.tags)
    if len(words) != len(tags) or not words:
        raise CompacterError(
            ErrorCode.E801,
            f"{row.place}: {columns.tokens} and {columns.tags} do not match",
            value=f"{len(words)} and {len(tags)}",
            expected="as many of one as of the other, at least one",
        )
    for word in words:
        if not isinstance(word, str):
            raise CompacterError(
                ErrorCode.E801, f"{row.place}: {columns.tokens} holds no text", value=word, expected="texts"
            )
    return TaggedWords(
        words=tuple(str(word) for word in words),
        tags=tuple(as_label(tag, columns.tags, row.place) for tag in tags),
        place=row.place,
    )


def _list(row: Row, name: str) -> list[object]:
    value = field(row.fields, name, row.place)
    if not isinstance(value, list):
        raise CompacterError(
            ErrorCode.E801, f"{row.place}: {name} is no list", value=value, expected="a list, as JSONL can hold"
        )
    return value
