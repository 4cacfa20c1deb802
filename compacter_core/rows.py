"""Rows of JSONL, CSV and TSV files. Every complaint names the file and the line."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compacter_core.errors import CompacterError, ErrorCode


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Args:
        place: where it was read, `file:line`.
        fields: its values by column name, or JSON key. Empty CSV fields are absent.
    """

    place: str
    fields: dict[str, object]


def read_rows(path: Path) -> list[Row]:
    """All rows of a file; the suffix decides its format: .jsonl or .ndjson, .csv, .tsv.

    Raises:
        CompacterError: E005 if the file cannot be read, E801 if it does not follow its format.
    """
    reader = ROW_FORMATS.get(path.suffix.lower())
    if reader is None:
        raise CompacterError(
            ErrorCode.E801, f"{path}: unknown kind of data file", value=path.suffix, expected=", ".join(ROW_FORMATS)
        )
    return list(reader(path, read_text(path)))


def read_text(path: Path) -> str:
    """A UTF-8 text file, with or without a byte order mark.

    Raises:
        CompacterError: E005 if it cannot be read, E801 if it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CompacterError(ErrorCode.E005, f"{path}: {error.strerror or error}", remedy="Check the path.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise CompacterError(
            ErrorCode.E801, f"{path}:{line}: not UTF-8", remedy="Convert the file to UTF-8."
        ) from error


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    # Split at newlines only: splitlines also splits at characters that JSON strings may hold.
    for number, line in enumerate(text.split("\n"), start=1):
        place = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CompacterError(
                ErrorCode.E801, f"{place}: not JSON ({error})", expected="one object per line"
            ) from error
        if not isinstance(fields, dict):
            raise CompacterError(ErrorCode.E801, f"{place}: not a JSON object", value=fields)
        yield Row(place, fields)


def _delimited_rows(delimiter: str) -> Callable[[Path, str], Iterator[Row]]:
    def rows(path: Path, text: str) -> Iterator[Row]:
        # As csv asks for: lines end at \n, \r or \r\n and nowhere else, and keep their ends.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            for values in reader:
                if not values:
                    continue
                place = f"{path}:{reader.line_num}"
                if len(values) != len(header):
                    raise CompacterError(
                        ErrorCode.E801,
                        f"{place}: the row has another number of fields than the header",
                        value=len(values),
                        expected=str(len(header)),
                    )
                yield Row(place, {name: value for name, value in zip(header, values, strict=True) if value})
        except csv.Error as error:
            raise CompacterError(ErrorCode.E801, f"{path}:{reader.line_num}: {error}") from error

    return rows


ROW_FORMATS: Final[dict[str, Callable[[Path, str], Iterator[Row]]]] = {
    ".jsonl": _json_rows,
    ".ndjson": _json_rows,
    ".csv": _delimited_rows(","),
    ".tsv": _delimited_rows("\t"),
}
