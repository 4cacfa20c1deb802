"""Examples as token ids."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch.utils.data import Dataset

Features = dict[str, Any]

IGNORED: Final = -100
"""The label of tokens that count for nothing, in PyTorch's cross-entropy and in every task here."""


@dataclass(frozen=True)
class EncodedDataset(Dataset[Features]):
    """Tokenised rows, unpadded: batches are padded to their own longest row.

    Args:
        rows: per example the tokenizer's output and `labels`.
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


def encode(
    tokenizer: Any, texts: Sequence[Any], pairs: Sequence[str] | None, labels: Iterable[Any], max_length: int
) -> EncodedDataset:
    """Tokenises texts, or pairs of texts.

    Args:
        tokenizer: transformers' tokenizer.
        texts: the texts.
        pairs: second texts; None where there are none.
        labels: one of each row, as the model takes it.
        max_length: tokens per row; longer ones are cut.
    """
    encoded = tokenizer(texts, pairs, truncation=True, max_length=max_length)
    rows = tuple(
        {name: values[index] for name, values in encoded.items()} | {"labels": label}
        for index, label in enumerate(labels)
    )
    whole = tokenizer(texts, pairs, truncation=False, verbose=False)["input_ids"]
    lengths = tuple(len(ids) for ids in encoded["input_ids"])
    cut = sum(len(ids) > length for ids, length in zip(whole, lengths, strict=True))
    return EncodedDataset(rows, lengths, cut)


def pairs_of(texts: Sequence[str | None]) -> list[str] | None:
    """Second texts as tokenizers take them: None where there are none. All rows have one, or no row has."""
    found = [text for text in texts if text is not None]
    return found or None
