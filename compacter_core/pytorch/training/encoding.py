"""Examples as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from compacter_core.pytorch.training.examples import Example
from compacter_core.pytorch.training.labels import Labels

Features = dict[str, Any]


@dataclass(frozen=True)
class EncodedDataset(Dataset[Features]):
    """Tokenised rows, unpadded: batches are padded to their own longest row.

    Args:
        rows: per example the tokenizer's output and `labels`, the class number.
        lengths: tokens per row.
        truncated: how many rows were cut.
    """

    rows: tuple[Features, ...]
    lengths: tuple[int, ...]
    truncated: int

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Features:
        """One row; a new dict, since collators change what they get."""
        return dict(self.rows[index])


def encode(examples: Sequence[Example], labels: Labels, tokenizer: Any, max_length: int) -> EncodedDataset:
    """Tokenises all examples.

    Raises:
        CompacterError: E802 for a label that `labels` lacks.
    """
    numbers = [labels.index(example) for example in examples]
    texts = [example.text for example in examples]
    pairs = None if examples[0].text_pair is None else [example.text_pair for example in examples]
    encoded = tokenizer(texts, pairs, truncation=True, max_length=max_length)
    whole = tokenizer(texts, pairs, truncation=False, verbose=False)["input_ids"]
    rows = tuple(
        {name: values[index] for name, values in encoded.items()} | {"labels": number}
        for index, number in enumerate(numbers)
    )
    lengths = tuple(len(ids) for ids in encoded["input_ids"])
    cut = sum(len(ids) > length for ids, length in zip(whole, lengths, strict=True))
    return EncodedDataset(rows, lengths, cut)
