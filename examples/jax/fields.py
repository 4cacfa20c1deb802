"""Typed access to the keys of a JSON object: the building blocks of the configuration's reader (CFG)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from examples.jax.rejection import Rejection

T = TypeVar("T")

REQUIRED = object()
"""Stands for "no default"."""


class Fields:
    """An object whose keys are taken one by one; what was not taken is unknown.

    Args:
        value: the JSON value, which has to be an object.
        known: all keys that the object may have.
        where: its place in messages.
    """

    def __init__(self, value: object, known: Sequence[str], where: str) -> None:
        if not isinstance(value, dict):
            raise Rejection("E203", f"{where} is not an object")
        unknown = sorted(set(value) - set(known))
        if unknown:
            raise Rejection("E205", f"{where} has unknown keys {unknown}")
        self._value: Mapping[str, Any] = value
        self._where = where

    def get(self, key: str, read: Callable[[object, str], T], default: Any = REQUIRED) -> T:
        """The value of `key` as `read` makes it, or the default.

        Raises:
            Rejection: E203 for a missing key; what `read` raises.
        """
        if key in self._value:
            return read(self._value[key], f"{self._where}.{key}")
        if default is REQUIRED:
            raise Rejection("E203", f"{self._where} lacks {key}")
        value: T = default
        return value


def string(value: object, where: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise Rejection("E203", f"{where} is not a string")
    return value


def boolean(value: object, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Rejection("E203", f"{where} is neither true nor false")
    return value


def integer(low: int, high: int) -> Callable[[object, str], int]:
    """A reader of integers from `low` to `high`; 4.0 is none."""

    def read(value: object, where: str) -> int:
        if type(value) is not int:
            raise Rejection("E203", f"{where} is not an integer")
        if not low <= value <= high:
            raise Rejection("E208", f"{where} is out of range")
        return value

    return read


def word(*words: str, code: str = "E203") -> Callable[[object, str], str]:
    """A reader of one of some words."""

    def read(value: object, where: str) -> str:
        if not isinstance(value, str) or value not in words:
            raise Rejection(code, f"{where} is none of {words}")
        return value

    return read


def sequence(read: Callable[[object, str], T]) -> Callable[[object, str], tuple[T, ...]]:
    """A reader of lists."""

    def read_all(value: object, where: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise Rejection("E203", f"{where} is not a list")
        return tuple(read(item, f"{where}[{index}]") for index, item in enumerate(value))

    return read_all


def mapping(read: Callable[[object, str], T]) -> Callable[[object, str], dict[str, T]]:
    """A reader of objects with any keys."""

    def read_all(value: object, where: str) -> dict[str, T]:
        if not isinstance(value, dict):
            raise Rejection("E203", f"{where} is not an object")
        return {key: read(item, f"{where}.{key}") for key, item in value.items()}

    return read_all


def anything(value: object, where: str) -> object:
    """Any JSON value."""
    return value
