"""The package says what each of its modules is for."""

import re
from pathlib import Path

from compacter_core import conformance


def test_every_module_is_named() -> None:
    """A module that is not in the list of the package's docstring is one that nobody finds."""
    names = {path.stem for path in Path(conformance.__file__).parent.glob("*.py")} - {"__init__"}
    assert names - set(re.findall(r"\w+", conformance.__doc__ or "")) == set()
