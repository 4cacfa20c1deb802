"""What a check of a suite looks at, and what it says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong.

    Args:
        place: a file, the id of a case, or an error code.
        problem: what is wrong with it.
    """

    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Contents:
    """A suite as it lies on disk, right or wrong.

    Args:
        files: every file, the manifest included, by its path.
        parsed: the JSON of the manifest, of case lists and of recipes.
        cases: the case list's path and the case, as JSON objects that need not follow the schema.
    """

    files: Mapping[str, bytes]
    parsed: Mapping[str, Any]
    cases: Sequence[tuple[str, Mapping[str, Any]]]

    def expectation(self, case: Mapping[str, Any]) -> Mapping[str, Any]:
        """The case's `expect`; empty if it is no object."""
        expect = case.get("expect")
        return expect if isinstance(expect, dict) else {}

    def arguments(self, case: Mapping[str, Any]) -> dict[str, str]:
        """The case's files by argument."""
        files = case.get("files")
        pairs = files.items() if isinstance(files, dict) else ()
        return {str(name): path for name, path in pairs if isinstance(path, str)}

    def paths(self, case: Mapping[str, Any]) -> Iterator[str]:
        """Every file that the case names."""
        yield from self.arguments(case).values()
        for key in ("tensors", "file"):
            path = self.expectation(case).get(key)
            if isinstance(path, str):
                yield path
