"""The package says what each of its modules is for."""

import re
from pathlib import Path

from compacter_core import conformance

MARGIN = 23


def named(text: str) -> set[str]:
    """The names in the left column, and those in backticks."""
    column = [line[:MARGIN] for line in text.splitlines() if line[MARGIN:].strip()]
    return {*re.findall(r"\w+", " ".join(column)), *re.findall(r"`(\w+)`", text)}


def test_every_module_is_named() -> None:
    """A module that is not in the list of the package's docstring is one that nobody finds."""
    names = {path.stem for path in Path(conformance.__file__).parent.glob("*.py")} - {"__init__"}
    assert names - named(conformance.__doc__ or "") == set()
