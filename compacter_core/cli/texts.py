"""The texts that `compacter run` reads: arguments, files, or standard input."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.rows import ROW_FORMATS, Row, read_rows, read_text

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Item:
    """One input of a model, and the class it is known to have, if any."""

    text: str
    text_pair: str | None = None
    label: str | None = None

    @property
    def model_input(self) -> str | tuple[str, str]:
        """The text, or the pair of texts."""
        return self.text if self.text_pair is None else (self.text, self.text_pair)

    def as_dict(self) -> dict[str, object]:
        """The text, or both, as JSON-compatible fields."""
        pair = {} if self.text_pair is None else {"text_pair": self.text_pair}
        return {"text": self.text, **pair}


def read_items(texts: Sequence[str], source: str | None) -> list[Item]:
    """The texts of the command line, or else those of `source`.

    Args:
        texts: arguments.
        source: a .jsonl, .csv or .tsv file with `text`, and perhaps `text_pair` and `label`; any other file, or "-"
            for standard input, holds one text per line. None means standard input unless that is a terminal.

    Raises:
        CompacterError: E005, E801; E703 if there is no input, or too much.
    """
    if texts and source is not None:
        raise CompacterError(ErrorCode.E703, "texts and --input exclude each other", remedy="Give one of them.")
    if texts:
        return [Item(text) for text in texts]
    if source is None and sys.stdin.isatty():
        raise CompacterError(ErrorCode.E703, "no input", remedy="Give texts, --input FILE, or lines on standard input.")
    if source in (None, STDIN):
        return _lines(sys.stdin.read())
    path = Path(str(source))
    if path.suffix.lower() in ROW_FORMATS:
        return [_item(row) for row in read_rows(path)]
    return _lines(read_text(path))


def _lines(text: str) -> list[Item]:
    return [Item(line.removesuffix("\r")) for line in text.removesuffix("\n").split("\n")] if text else []


def _item(row: Row) -> Item:
    text, pair, label = (row.fields.get(key) for key in ("text", "text_pair", "label"))
    if not isinstance(text, str):
        raise CompacterError(
            ErrorCode.E801, f"{row.place}: no text", value=sorted(row.fields), expected="a string under the name text"
        )
    if pair is not None and not isinstance(pair, str):
        raise CompacterError(ErrorCode.E801, f"{row.place}: text_pair is no text", value=pair, expected="a string")
    return Item(text, pair, None if label is None else str(label))
