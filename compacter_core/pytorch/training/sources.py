"""Where examples come from: a file, or a data set of the `datasets` library."""

import re
from pathlib import Path
from typing import Any

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training.examples import Columns, Example, checked, read_file
from compacter_core.rows import ROW_FORMATS

_NAME = re.compile(r"(?P<path>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>.+))?")


def load_examples(source: str, *, split: str, columns: Columns) -> list[Example]:
    """Rows of a file, or of a data set named `NAME[:CONFIG][@SPLIT]`.

    Args:
        source: a path with the suffix of a data file, or a name or directory for `datasets.load_dataset`.
        split: of a data set whose name has no `@SPLIT`.
        columns: where the parts of a row are.

    Raises:
        CompacterError: E005, E801; E004 if the data set needs the `datasets` package and it is not installed.
    """
    path = Path(source)
    if path.suffix.lower() in ROW_FORMATS or path.is_file():
        return read_file(path, columns)
    parts = _NAME.fullmatch(source)
    if parts is None:
        raise CompacterError(
            ErrorCode.E801,
            "neither a data file nor a data set",
            value=source,
            expected="a file, or NAME[:CONFIG][@SPLIT]",
        )
    rows = _load(parts["path"], parts["config"], parts["split"] or split)
    classes = getattr(rows.features.get(columns.label), "names", None)
    examples = []
    for number, row in enumerate(rows):
        label = row.get(columns.label)
        if classes is not None and isinstance(label, int) and 0 <= label < len(classes):
            row[columns.label] = classes[label]
        examples.append(Example.from_fields(row, columns, f"{source}, row {number}"))
    return checked(examples, source)


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
