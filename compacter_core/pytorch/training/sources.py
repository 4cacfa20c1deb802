"""Where examples come from: a file, or a data set of the `datasets` library."""

import re
from pathlib import Path
from typing import Any

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training.examples import Columns, Example, check_some, checked
from compacter_core.rows import ROW_FORMATS, Row, read_rows

_NAME = re.compile(r"(?P<path>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>.+))?")


def load_examples(source: str, *, split: str, columns: Columns) -> list[Example]:
    """Labelled texts of a file or a data set.

    Arguments and errors as of `load_rows`; columns say where the parts of a row are.
    """
    rows = load_rows(source, split=split)
    return checked([Example.from_fields(row.fields, columns, row.place) for row in rows], source)


def load_rows(source: str, *, split: str) -> list[Row]:
    """Rows of a file, or of a data set named `NAME[:CONFIG][@SPLIT]`, whose classes are given by name.

    Args:
        source: a path with the suffix of a data file, or a name or directory for `datasets.load_dataset`.
        split: of a data set whose name has no `@SPLIT`.

    Raises:
        CompacterError: E005; E801, also if there are no rows; E004 if the data set needs the `datasets` package and
            it is not installed.
    """
    path = Path(source)
    is_file = path.suffix.lower() in ROW_FORMATS or path.is_file()
    rows = read_rows(path) if is_file else _rows_of_data_set(source, split)
    check_some(rows, source)
    return rows


def _rows_of_data_set(source: str, split: str) -> list[Row]:
    parts = _NAME.fullmatch(source)
    if parts is None:
        raise CompacterError(
            ErrorCode.E801,
            "neither a data file nor a data set",
            value=source,
            expected="a file, or NAME[:CONFIG][@SPLIT]",
        )
    data = _load(parts["path"], parts["config"], parts["split"] or split)
    classes = {name: names for name, feature in data.features.items() if (names := _class_names(feature))}
    return [
        Row(
            f"{source}, row {number}",
            {name: _named(value, classes[name]) if name in classes else value for name, value in row.items()},
        )
        for number, row in enumerate(data)
    ]


def _class_names(feature: Any) -> list[str]:
    """Names of the classes of a feature that holds class numbers, or lists of them."""
    return list(getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None) or ())


def _named(value: object, names: list[str]) -> object:
    """Class numbers as names; what is out of range, such as -1 for a hidden label, stays."""
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


def _load(path: str, config: str | None, split: str) -> Any:
    try:
        import datasets  # noqa: PLC0415 (optional package)
    except ModuleNotFoundError as error:
        raise CompacterError(
            ErrorCode.E004,
            f"{path} is no file, and data sets need the package datasets",
            remedy='Install it with: pip install "compacter-core[data]".',
        ) from error
    try:
        return datasets.load_dataset(path, config, split=split)
    except Exception as error:
        # The library raises many kinds, down to those of the network; each means that there is no such data here.
        raise CompacterError(
            ErrorCode.E801,
            f"the data set cannot be loaded ({type(error).__name__}: {error})",
            value=f"{path}, {config or 'default'}, {split}",
            remedy="Check the name, the split and the network, or give a .jsonl or .csv file.",
        ) from error
