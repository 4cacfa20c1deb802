"""Configurations of other libraries: JSON objects whose keys are all known and whose values have a type."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.source import open_source
from compacter_core.format.strict_json import Rules, parse_object

_MAX_JSON: Final = 2**20


class ForeignOptions:
    """The options in one JSON file, asked for by type.

    Args:
        values: by name.
        place: name of the file, for messages.
        defaults: of that library, for options that the file leaves out.
    """

    def __init__(self, values: Mapping[str, Any], place: str, defaults: Mapping[str, Any] | None = None) -> None:
        self.place = place
        self.given = frozenset(values)
        self.values = {**(defaults or {}), **values}

    def flag(self, name: str) -> bool:
        """A truth value; null is false.

        Raises:
            CompacterError: E501.
        """
        value = self._get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return bool(value)

    def count(self, name: str) -> int:
        """A positive integer.

        Raises:
            CompacterError: E501.
        """
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.wrong(name, "a positive integer")
        return value

    def text(self, name: str) -> str:
        """A string.

        Raises:
            CompacterError: E501.
        """
        value = self._get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def layers(self, name: str) -> tuple[int, ...] | None:
        """A list of layer numbers; None for null.

        Raises:
            CompacterError: E501.
        """
        value = self._get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(one, int) and not isinstance(one, bool) for one in value):
            raise self.wrong(name, "a list of layer numbers")
        return tuple(value)

    def known(self, names: Collection[str]) -> dict[str, Any]:
        """Those of these options that the file has, as they are."""
        return {name: self.values[name] for name in sorted(names) if name in self.values}

    def refuse_unknown(self, names: Collection[str]) -> None:
        """No option has another name than these.

        Raises:
            CompacterError: E502.
        """
        unknown = sorted(set(self.values) - set(names))
        if unknown:
            raise CompacterError(
                ErrorCode.E502,
                f"{self.place} has options that this importer does not know",
                value=unknown,
                remedy="A later version of the library may have saved it.",
            )

    def wrong(self, name: str, expected: str) -> CompacterError:
        """The refusal of an option's value."""
        return CompacterError(
            ErrorCode.E501, f"option {name} of {self.place}", value=self.values.get(name), expected=expected
        )

    def _get(self, name: str) -> Any:
        if name not in self.values:
            raise CompacterError(ErrorCode.E501, f"{self.place} lacks the option {name}")
        return self.values[name]


def read_options(
    directory: Path, name: str, *, remedy: str, defaults: Mapping[str, Any] | None = None
) -> ForeignOptions:
    """The options in a JSON file.

    Args:
        directory: where it is.
        name: of the file.
        remedy: what helps if it is missing.
        defaults: of options that it leaves out.

    Raises:
        CompacterError: as `read_json_object`.
    """
    return ForeignOptions(read_json_object(directory, name, remedy=remedy), name, defaults)


def read_json_object(directory: Path, name: str, *, remedy: str) -> dict[str, Any]:
    """A JSON file.

    Args:
        directory: where it is.
        name: of the file.
        remedy: what helps if it is missing.

    Raises:
        CompacterError: E501 if it is missing or no JSON object, E104 for a duplicate key.
    """
    if not (directory / name).is_file():
        raise CompacterError(ErrorCode.E501, f"there is no {name}", value=str(directory), remedy=remedy)
    rules = Rules(name, _MAX_JSON, too_large=ErrorCode.E501, malformed=ErrorCode.E501)
    with open_source(directory / name) as source:
        return parse_object(source.peek(_MAX_JSON + 1).decode(errors="replace"), rules)
