"""From texts to token arrays, with the tokenizers library alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from compacter_core.errors import CompacterError, ErrorCode

Text = str | tuple[str, str]
TOKENIZER_FILE = "tokenizer.json"
_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Padding:
    """How rows of a batch are made equally long: the fill value of each input, and the side that is filled."""

    fill: dict[str, int]
    left: bool


class TextEncoder:
    """A tokenizer.json, as the exporter writes it: truncation and padding are taken from the file.

    Args:
        path: the file.

    Raises:
        CompacterError: E702 if there is none, or if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise CompacterError(
                ErrorCode.E702,
                "texts need a tokenizer beside the model",
                value=str(path),
                remedy=f"Copy {TOKENIZER_FILE} from the exported backbone's directory, or pass token arrays.",
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        # The library raises bare Exception for every kind of malformed file.
        except Exception as error:
            raise CompacterError(ErrorCode.E702, f"the tokenizer cannot be read: {error}", value=str(path)) from error
        padding = self._tokenizer.padding or {}
        self._padding = Padding(
            fill={
                "input_ids": padding.get("pad_id", 0),
                "attention_mask": 0,
                "token_type_ids": padding.get("pad_type_id", 0),
            },
            left=str(padding.get("direction", "right")).lower() == "left",
        )
        # Padding is done per batch, after sorting by length; the library would pad to the longest text of all.
        self._tokenizer.no_padding()

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the model inputs that a tokenizer can supply."""
        return tuple(self._padding.fill)

    def encode(self, texts: Sequence[Text]) -> Iterator[Encoding]:
        """Tokenise texts or pairs of texts, truncated to the model's length.

        Raises:
            CompacterError: E703 naming the index of what is neither a text nor a pair of texts.
        """
        for start in range(0, len(texts), _CHUNK):
            chunk = [_checked(text, start + i) for i, text in enumerate(texts[start : start + _CHUNK])]
            yield from self._tokenizer.encode_batch(chunk)

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The texts of rows of tokens, without special ones."""
        texts: list[str] = self._tokenizer.decode_batch(rows)
        return texts

    def collate(self, encodings: Sequence[Encoding], names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """Arrays [batch, longest] of the inputs `names`, padded as the file says."""
        length = max(len(encoding) for encoding in encodings)
        batch = {name: np.full((len(encodings), length), self._padding.fill[name], np.int64) for name in names}
        for row, encoding in enumerate(encodings):
            columns = slice(length - len(encoding), length) if self._padding.left else slice(len(encoding))
            values = {
                "input_ids": encoding.ids,
                "attention_mask": encoding.attention_mask,
                "token_type_ids": encoding.type_ids,
            }
            for name in names:
                batch[name][row, columns] = values[name]
        return batch


def _checked(text: object, index: int) -> Text:
    match text:
        case str():
            return text
        case (str(first), str(second)):
            return first, second
    raise CompacterError(
        ErrorCode.E703, f"input {index} is no text", value=text, expected="a string, or a pair of strings"
    )
