"""Labelled texts and other rows of data files. Every complaint names the file and the line."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.rows import read_rows

FieldT = TypeVar("FieldT")


class Pair(Protocol):
    """A row that may have a second text."""

    @property
    def text_pair(self) -> str | None:
        """The second text."""

    @property
    def place(self) -> str:
        """Where the row was read."""


PairT = TypeVar("PairT", bound=Pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns, or JSON keys, that hold a row's parts. Others are ignored.

    Args:
        text: the text, or the first of two.
        text_pair: the second text of tasks on pairs.
        label: the class, or the number.
        target: the text to be generated.
        tokens: the list of words of token classification.
        tags: the list of their classes.
    """

    text: str = "text"
    text_pair: str = "text_pair"
    label: str = "label"
    target: str = "target"
    tokens: str = "tokens"
    tags: str = "labels"


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
    def from_fields(cls, fields: Mapping[str, object], columns: Columns, place: str) -> Self:
        """Check and take the parts of one row.

        Raises:
            CompacterError: E801 for a missing or empty part, or one of the wrong type.
        """
        return cls(
            text=text_field(fields, columns.text, place),
            text_pair=optional(text_field, fields, columns.text_pair, place),
            label=label_field(fields, columns.label, place),
            place=place,
        )


def read_file(path: Path, columns: Columns) -> list[Example]:
    """All labelled texts of a file; the suffix decides its format: .jsonl or .ndjson, .csv, .tsv.

    Raises:
        CompacterError: E005 if the file cannot be read, E801 for anything in it that cannot be used.
    """
    return checked([Example.from_fields(row.fields, columns, row.place) for row in read_rows(path)], str(path))


def checked(examples: Sequence[PairT], source: str) -> list[PairT]:
    """`examples`, if there are any and either all or none of them are pairs.

    Raises:
        CompacterError: E801.
    """
    check_some(examples, source)
    pairs = examples[0].text_pair is not None
    for example in examples:
        if (example.text_pair is not None) != pairs:
            raise CompacterError(
                ErrorCode.E801,
                f"{example.place}: some rows have a text_pair and some have none",
                expected=f"like {examples[0].place}, which has {'one' if pairs else 'none'}",
            )
    return list(examples)


def check_some(rows: Sequence[object], source: str) -> None:
    """There are rows at all.

    Raises:
        CompacterError: E801.
    """
    if not rows:
        raise CompacterError(ErrorCode.E801, f"{source}: no rows")


def field(fields: Mapping[str, object], name: str, place: str) -> object:
    """A field that has to be there.

    Raises:
        CompacterError: E801 if it is absent or null.
    """
    value = fields.get(name)
    if value is None:
        raise CompacterError(
            ErrorCode.E801,
            f"{place}: no {name}",
            value=sorted(fields),
            expected=f"a field {name}",
            remedy="Name the columns that hold the row's parts, if they have other names.",
        )
    return value


def optional(
    read: Callable[[Mapping[str, object], str, str], FieldT], fields: Mapping[str, object], name: str, place: str
) -> FieldT | None:
    """A field by its reader, or None if it is absent or null."""
    return None if fields.get(name) is None else read(fields, name, place)


def text_field(fields: Mapping[str, object], name: str, place: str) -> str:
    """A non-empty text.

    Raises:
        CompacterError: E801.
    """
    value = field(fields, name, place)
    if not isinstance(value, str) or not value.strip():
        raise CompacterError(
            ErrorCode.E801, f"{place}: {name} is not a text", value=value, expected="a non-empty string"
        )
    return value


def label_field(fields: Mapping[str, object], name: str, place: str) -> str:
    """A class: a non-empty text or an integer, as text.

    Raises:
        CompacterError: E801.
    """
    return as_label(field(fields, name, place), name, place)


def as_label(value: object, name: str, place: str) -> str:
    """A value as the name of a class.

    Raises:
        CompacterError: E801 if it is neither a non-empty text nor an integer.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value
    raise CompacterError(
        ErrorCode.E801, f"{place}: {name} is no class", value=value, expected="a non-empty string or an integer"
    )


def number_field(fields: Mapping[str, object], name: str, place: str) -> float:
    """A finite number, which may be written as a text.

    Raises:
        CompacterError: E801.
    """
    value = field(fields, name, place)
    try:
        number = float("nan") if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # tried
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise CompacterError(ErrorCode.E801, f"{place}: {name} is no number", value=value, expected="a finite number")
    return number
