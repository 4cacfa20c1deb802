"""JSON without the traps: bounded size and depth, no duplicate keys, no NaN, no integers a double cannot hold.

The bounds are checked on the text, before a parser recurses or allocates.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from compacter_core.errors import CompacterError, ErrorCode

MAX_DEPTH = 16
MAX_INTEGER = 2**53 - 1

_STRUCTURE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{}]', re.DOTALL)
"""A whole string, a bracket, or the quote of an unterminated string. Possessive, so that it stays linear."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a JSON text may be and the codes that reject it.

    Args:
        what: name of the text in messages.
        max_bytes: longest UTF-8 form.
        too_large: code for size, depth, number literals out of range.
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
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise CompacterError(rules.malformed, f"{rules.what} is not valid Unicode", value=error.reason) from error
    if size > rules.max_bytes:
        raise CompacterError(
            rules.too_large, f"{rules.what} is too long", value=size, expected=f"at most {rules.max_bytes} bytes"
        )
    _check_depth(text, rules)
    try:
        value = json.loads(
            text,
            object_pairs_hook=lambda pairs: _unique(pairs, rules),
            parse_int=lambda literal: _integer(literal, rules),
            parse_float=lambda literal: _number(literal, rules),
            parse_constant=lambda literal: _refuse_number(literal, rules),
        )
    except json.JSONDecodeError as error:
        raise CompacterError(
            rules.malformed, f"{rules.what} is not JSON: {error.msg}", value=f"position {error.pos}"
        ) from error
    if not isinstance(value, dict):
        raise CompacterError(rules.malformed, f"{rules.what} is not a JSON object", value=value)
    return value


def _check_depth(text: str, rules: Rules) -> None:
    depth = 0
    for match in _STRUCTURE.finditer(text):
        match match.group():
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case '"':  # unterminated: the parser will say where
                return
        if depth > MAX_DEPTH:
            raise CompacterError(
                rules.too_large, f"{rules.what} is nested too deeply", value=depth, expected=f"at most {MAX_DEPTH}"
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
