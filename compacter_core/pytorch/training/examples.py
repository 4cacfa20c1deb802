"""Labelled texts from JSONL, CSV and TSV files. Every complaint names the file and the line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.rows import read_rows

_REMEDY = "Each row needs a text and a label, and may have a second text (text_pair)."


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns, or JSON keys, that hold a row's parts. Others are ignored."""

    text: str = "text"
    text_pair: str = "text_pair"
    label: str = "label"


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text, or pair of texts.

    Args:
        text: the text.
        text_pair: the second text of tasks on pairs.
        label: the class name.
        place: where it was read, for messages: `file:line`.
    """

    text: str
    text_pair: str | None
    label: str
    place: str

    @classmethod
    def from_fields(cls, fields: dict[str, object], columns: Columns, place: str) -> Self:
        """Check and take the parts of one row.

        Raises:
            CompacterError: E801 for a missing or empty part, or one of the wrong type.
        """
        pair = fields.get(columns.text_pair)
        return cls(
            text=_text(fields, columns.text, place),
            text_pair=None if pair is None else _text(fields, columns.text_pair, place),
            label=_label(fields, columns.label, place),
            place=place,
        )


def read_file(path: Path, columns: Columns) -> list[Example]:
    """All rows of a file; the suffix decides its format: .jsonl or .ndjson, .csv, .tsv.

    Raises:
        CompacterError: E005 if the file cannot be read, E801 for anything in it that cannot be used.
    """
    return checked([Example.from_fields(row.fields, columns, row.place) for row in read_rows(path)], str(path))


def checked(examples: Sequence[Example], source: str) -> list[Example]:
    """`examples`, if there are any and either all or none of them are pairs.

    Raises:
        CompacterError: E801.
    """
    if not examples:
        raise CompacterError(ErrorCode.E801, f"{source}: no rows", remedy=_REMEDY)
    pairs = examples[0].text_pair is not None
    for example in examples:
        if (example.text_pair is not None) != pairs:
            raise CompacterError(
                ErrorCode.E801,
                f"{example.place}: some rows have a text_pair and some have none",
                expected=f"like {examples[0].place}, which has {'one' if pairs else 'none'}",
            )
    return list(examples)


def _text(fields: dict[str, object], name: str, place: str) -> str:
    value = fields.get(name)
    if value is None:
        raise CompacterError(
            ErrorCode.E801, f"{place}: no {name}", value=sorted(fields), expected=f"a field {name}", remedy=_REMEDY
        )
    if not isinstance(value, str) or not value.strip():
        raise CompacterError(
            ErrorCode.E801, f"{place}: {name} is not a text", value=value, expected="a non-empty string"
        )
    return value


def _label(fields: dict[str, object], name: str, place: str) -> str:
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value
    if value is None:
        raise CompacterError(
            ErrorCode.E801, f"{place}: no {name}", value=sorted(fields), expected=f"a field {name}", remedy=_REMEDY
        )
    raise CompacterError(
        ErrorCode.E801, f"{place}: {name} is no class", value=value, expected="a non-empty string or an integer"
    )
