"""JSON for untrusted text: limits are checked before the parser recurses or allocates (FMT, CFG, SEC)."""

import json
from typing import Any, NoReturn

from examples.jax.rejection import Rejection

MAX_DEPTH = 16
MAX_INTEGER = 2**53 - 1
MAX_DIGITS = len(str(MAX_INTEGER))


def parse_object(text: str, *, malformed: str, limit: str) -> dict[str, Any]:
    """The JSON object in `text`.

    Args:
        text: what to parse.
        malformed: code for a text that is no JSON object.
        limit: code for too much depth and for numbers out of range.

    Raises:
        Rejection: with one of these codes, or E104 for a duplicate key.
    """
    _check_depth(text, limit)

    def refuse(literal: str) -> NoReturn:
        raise Rejection(limit, f"number {literal[:40]}")

    def integer(literal: str) -> int:
        if len(literal.lstrip("-")) > MAX_DIGITS or abs(int(literal)) > MAX_INTEGER:
            refuse(literal)
        return int(literal)

    def number(literal: str) -> float:
        value = float(literal)
        if value in (float("inf"), float("-inf")):
            refuse(literal)
        return value

    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=integer, parse_float=number, parse_constant=refuse
        )
    except json.JSONDecodeError as error:
        raise Rejection(malformed, f"not JSON: {error.msg}") from error
    if not isinstance(value, dict):
        raise Rejection(malformed, "not an object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise Rejection("E104", "duplicate key")
    return value


def _check_depth(text: str, code: str) -> None:
    """Brackets outside strings nest at most `MAX_DEPTH` deep; jumps from one interesting character to the next."""
    depth = position = 0
    while position < len(text):
        match text[position]:
            case '"':
                position = _string_end(text, position)
            case "[" | "{":
                depth += 1
                if depth > MAX_DEPTH:
                    raise Rejection(code, "nested too deeply")
            case "]" | "}":
                depth -= 1
        position += 1


def _string_end(text: str, start: int) -> int:
    """Position of the quote that closes the string at `start`, or the text's end."""
    position = start
    while True:
        position = text.find('"', position + 1)
        if position < 0:
            return len(text)
        before = position - 1
        while text[before] == "\\":
            before -= 1
        if (position - before) % 2 == 1:
            return position
