"""What a wrong implementation of the file operations is, and the usual ways of being wrong."""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from compacter_core.conformance.implementation import Answer, Capabilities, Done, Implementation, Rejected, Request
from compacter_core.conformance.words import ConformanceClass, Op

PREFIX: Final = 8

Right = Callable[[Request], Answer]
Behaviour = Callable[[Request, Right], Answer]
"""What a wrong implementation does with a request, given the right one."""


@dataclass(frozen=True, slots=True)
class FileMutant:
    """A wrong implementation of the classes R, W and O.

    Args:
        name: unique, of words joined by hyphens.
        description: what it does wrong.
        behave: what it does.
        classes: those it is wrong in.
    """

    name: str
    description: str
    behave: Behaviour
    classes: frozenset[ConformanceClass]

    def make(self, right: Implementation) -> Implementation:
        """The wrong implementation, made of a right one of its classes."""
        return _Wrong(self, right)


class _Wrong:
    def __init__(self, mutant: FileMutant, right: Implementation) -> None:
        self._mutant = mutant
        self._right = right

    def describe(self) -> Capabilities:
        """The mutant's name, and its classes."""
        return Capabilities(
            name=f"mutant {self._mutant.name}",
            version=self._right.describe().version,
            claims=dict.fromkeys(sorted(self._mutant.classes), ()),
        )

    def run(self, request: Request) -> Answer:
        """Do what a case asks, wrongly."""
        return self._mutant.behave(request, self._right.run)


def unchecked(*codes: str, op: Op | None = None) -> Behaviour:
    """Accepts what has to be refused with one of the codes."""

    def behave(request: Request, right: Right) -> Answer:
        answer = right(request)
        concerned = op in (None, request.op)
        return Done() if concerned and isinstance(answer, Rejected) and answer.code in codes else answer

    return behave


def confused(code: str, other: str) -> Behaviour:
    """Refuses with another code."""

    def behave(request: Request, right: Right) -> Answer:
        answer = right(request)
        return Rejected(other) if answer == Rejected(code) else answer

    return behave


def repaired(op: Op, argument: str, repair: Callable[[bytes], bytes]) -> Behaviour:
    """Sees another file than the one that it is given."""

    def behave(request: Request, right: Right) -> Answer:
        path = request.files.get(argument)
        if request.op is not op or path is None:
            return right(request)
        changed = path.with_name(f"{path.stem}.repaired{path.suffix}")
        changed.write_bytes(repair(path.read_bytes()))
        return right(replace(request, files={**request.files, argument: changed}))

    return behave


def with_config(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """A repair that changes the configuration in place, where there is one that can be read."""

    def repair(data: bytes) -> bytes:
        header, body = take_apart(data)
        metadata = header.get("__metadata__")
        if not isinstance(metadata, dict) or "compacter.config" not in metadata:
            return data
        try:
            config = json.loads(metadata["compacter.config"])
        except (ValueError, TypeError, RecursionError):
            return data
        if isinstance(config, dict):
            change(config)
        changed = {**metadata, "compacter.config": json.dumps(config)}
        return put_together({**header, "__metadata__": changed}, body)

    return repair


def with_header(change: Callable[[dict[str, Any], bytes], tuple[Mapping[str, Any], bytes]]) -> Callable[[bytes], bytes]:
    """A repair of header and body, where the header can be read."""

    def repair(data: bytes) -> bytes:
        header, body = take_apart(data)
        return put_together(*change(header, body)) if header else data

    return repair


def take_apart(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and body of a file; an empty header where there is none."""
    if len(data) < PREFIX:
        return {}, b""
    (length,) = struct.unpack("<Q", data[:PREFIX])
    try:
        header = json.loads(data[PREFIX : PREFIX + length])
    except (ValueError, RecursionError):
        header = {}
    return (header if isinstance(header, dict) else {}), data[PREFIX + length :]


def put_together(header: Mapping[str, Any], body: bytes, **spelling: Any) -> bytes:
    """The file of a header and a body; `spelling` goes to `json.dumps`."""
    text = json.dumps(header, **{"separators": (",", ":"), "ensure_ascii": True, **spelling}).encode()
    return struct.pack("<Q", len(text)) + text + body
