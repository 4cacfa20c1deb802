"""The JSON Schemas of the specification, executed (conformance, suite)."""

import json
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from compacter_core.errors import CompacterError, ErrorCode

_PACKAGE = Path(__file__).resolve().parent
_PLACES = (_PACKAGE / "schemas", _PACKAGE.parents[1] / "specs" / "schemas")


def violations(name: str, value: object) -> Iterator[str]:
    """What is wrong with a JSON value by the schema `<name>.schema.json`: the place, and what is there.

    Raises:
        CompacterError: E004 without the package jsonschema; E005 if the schema is not there.
    """
    for error in sorted(validator(name).iter_errors(value), key=lambda error: error.json_path):
        yield f"{error.json_path}: {_deepest(error).message}"


@lru_cache(maxsize=16)
def validator(name: str) -> Any:
    """The validator of `<name>.schema.json`.

    Raises:
        CompacterError: E004 without the package jsonschema; E005 if the schema is not there.
    """
    try:
        package: Any = import_module("jsonschema")  # an optional dependency, without types
    except ModuleNotFoundError as error:
        raise CompacterError(
            ErrorCode.E004,
            "suites are checked by JSON Schemas with the package jsonschema",
            remedy='Install it with: pip install "compacter-core[conformance]".',
        ) from error
    return package.Draft202012Validator(json.loads(schema_file(name).read_text(encoding="utf-8")))


def schema_file(name: str) -> Path:
    """Where `<name>.schema.json` is: in the installed package, or in the source tree it runs from.

    Raises:
        CompacterError: E005 if it is in neither.
    """
    for place in _PLACES:
        if (file := place / f"{name}.schema.json").is_file():
            return file
    raise CompacterError(
        ErrorCode.E005, "this installation has no such schema", value=name, expected=" or ".join(map(str, _PLACES))
    )


def _deepest(error: Any) -> Any:
    """Of the alternatives that all fail, the failure that got furthest."""
    while error.context:
        error = max(error.context, key=lambda inner: len(inner.absolute_path))
    return error
