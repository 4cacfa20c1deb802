"""JSON without the traps: bounded size, depth and count, no duplicate keys, no NaN, no integers a double cannot hold.

The bounds are checked on the text, before a parser recurses or allocates.
"""

import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NoReturn

from compacter_core.errors import CompacterError, ErrorCode

MAX_DEPTH: Final = 16
MAX_INTEGER: Final = 2**53 - 1
MAX_VALUES: Final = 65_536
"""Most values in one text, counted as its commas and opening brackets outside strings. It bounds the memory that a
parser takes: a Python object is many times as large as the two bytes that ask for it."""

_STRUCTURE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)
"""A whole string, a bracket, a comma, or the quote of an unterminated string. Possessive, so that it stays linear."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a JSON text may be and the codes that reject it.

    Args:
        what: name of the text in messages.
        max_bytes: longest UTF-8 form.
        too_large: code for size, depth, count, number literals out of range.
        malformed: code for a text that is not JSON, or not an object.
    """

    what: str
    max_bytes: int
    too_large: ErrorCode
    malformed: ErrorCode


def parse_object(text: str, rules: Rules) -> dict[str, Any]:
    """The JSON object in `text`.

    Raises:
        CompacterError: E104 for a duplicate key at any level, otherwise the codes of `rules`.
    """
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise CompacterError(rules.malformed, f"{rules.what} is not valid Unicode", value=error.reason) from error
    if size > rules.max_bytes:
        raise CompacterError(
            rules.too_large, f"{rules.what} is too long", value=size, expected=f"at most {rules.max_bytes} bytes"
        )
    _check_structure(text, rules)
    value = parse_value(text, rules)
    if not isinstance(value, dict):
        raise CompacterError(rules.malformed, f"{rules.what} is not a JSON object", value=value)
    return value


def parse_value(text: str, rules: Rules) -> Any:
    """Any JSON value, of a text whose size and depth have been bounded already.

    Raises:
        CompacterError: as `parse_object`.
    """
    try:
        return _decoder(rules).decode(text)
    except json.JSONDecodeError as error:
        raise CompacterError(
            rules.malformed, f"{rules.what} is not JSON: {error.msg}", value=f"position {error.pos}"
        ) from error


def refuse_depth(rules: Rules) -> NoReturn:
    """Raise for a text nested more than `MAX_DEPTH` deep."""
    raise CompacterError(rules.too_large, f"{rules.what} is nested too deeply", expected=f"at most {MAX_DEPTH} levels")


@lru_cache(maxsize=8)
def _decoder(rules: Rules) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=lambda pairs: _unique(pairs, rules),
        parse_int=lambda literal: _integer(literal, rules),
        parse_float=lambda literal: _number(literal, rules),
        parse_constant=lambda literal: _refuse_number(literal, rules),
    )


def _check_structure(text: str, rules: Rules) -> None:
    depth = values = 0
    for match in _STRUCTURE.finditer(text):
        match text[match.start()]:
            case "[" | "{":
                depth += 1
                values += 1
            case "]" | "}":
                depth -= 1
            case ",":
                values += 1
            case _ if len(match.group()) == 1:  # an unterminated string: the parser will say where
                return
        if depth > MAX_DEPTH:
            refuse_depth(rules)
        if values > MAX_VALUES:
            raise CompacterError(
                rules.too_large,
                f"{rules.what} has too many values",
                expected=f"at most {MAX_VALUES} commas and opening brackets",
            )


def _unique(pairs: list[tuple[str, Any]], rules: Rules) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise CompacterError(ErrorCode.E104, f"{rules.what} has a duplicate key", value=key)
        value[key] = item
    return value


def _integer(literal: str, rules: Rules) -> int:
    if len(literal) > len(str(-MAX_INTEGER)) or abs(int(literal)) > MAX_INTEGER:
        _refuse_number(literal, rules)
    return int(literal)


def _number(literal: str, rules: Rules) -> float:
    value = float(literal)
    if math.isinf(value):
        _refuse_number(literal, rules)
    return value


def _refuse_number(literal: str, rules: Rules) -> NoReturn:
    raise CompacterError(
        rules.too_large,
        f"{rules.what} has a number out of range",
        value=literal,
        expected="finite numbers, and integers of at most 2^53 - 1",
    )
