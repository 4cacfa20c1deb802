"""Messages between runner and implementation as JSON objects, one a line (CNF-14, CNF-15, CNF-18)."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from compacter_core.adapter import DType
from compacter_core.conformance.implementation import (
    Answer,
    Capabilities,
    Done,
    Failed,
    Rejected,
    Request,
    Skipped,
)
from compacter_core.conformance.printable import printable
from compacter_core.conformance.words import ConformanceClass, Op
from compacter_core.errors import CompacterError, ErrorCode

PROTOCOL: Final = 1
MAX_LINE: Final = 64 * 2**20
"""Longest line that the runner reads, in bytes: a value may list 65,536 tensors."""
_NAME_LENGTH: Final = 200

FILE_ARGUMENTS: Final[Mapping[Op, tuple[str, ...]]] = MappingProxyType(
    {
        Op.READ: ("adapter", "profile"),
        Op.COUNT: (),
        Op.MATCH: ("adapter", "weights"),
        Op.WRITE: ("tensors",),
        Op.FORWARD: ("adapter", "inputs"),
        Op.GRADIENT: ("adapter", "inputs"),
        Op.SUBLAYER: ("adapter", "inputs"),
        Op.INITIALISE: (),
        Op.EXTRACT: ("model",),
        Op.GRAFT: ("model", "adapter", "feeds"),
    }
)
"""The arguments of each operation that are files (CNF-4)."""


def encode_line(message: Mapping[str, object]) -> bytes:
    """A message as one line. It is ASCII, so that no text in it, unpaired surrogates included, is a problem."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode_line(line: bytes) -> dict[str, Any]:
    """The message in a line.

    Raises:
        CompacterError: E801 if the line is no JSON object.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad(f"is not JSON ({error})", _shown(line)) from error
    if not isinstance(message, dict):
        raise _bad("is no JSON object", message)
    return message


def request_to_json(request: Request) -> dict[str, object]:
    """A request without `cmd` and `seq`; files are sent by their names inside the scratch folder."""
    dtype: dict[str, object] = {} if request.dtype is None else {"dtype": request.dtype.value}
    files = {name: path.name for name, path in request.files.items()}
    return {
        "case": request.case,
        "op": request.op.value,
        **dtype,
        "args": {**request.args, **files},
        "out": request.out.name,
    }


def request_from_json(message: Mapping[str, Any], scratch: Path) -> Request:
    """The request in a message.

    Raises:
        CompacterError: E801 for an operation or type of another version of this protocol, or a missing key.
    """
    try:
        op = Op(message["op"])
        args = dict(message["args"])
        files = {name: scratch / args.pop(name) for name in FILE_ARGUMENTS[op] if name in args}
        dtype = DType(message["dtype"]) if "dtype" in message else None
        return Request(case=message["case"], op=op, dtype=dtype, files=files, args=args, out=scratch / message["out"])
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(f"is no request ({error!r})", dict(message)) from error


def answer_to_json(answer: Answer) -> dict[str, object]:
    """An answer without `seq`."""
    match answer:
        case Done(value):
            return {"ok": dict(value)}
        case Rejected(code):
            return {"rejected": {"code": code}}
        case Skipped(reason):
            return {"skipped": {"reason": reason}}
        case Failed(message):
            return {"error": {"message": message}}


def answer_from_json(message: Mapping[str, Any], seq: int) -> Answer:
    """The answer to request `seq` in a message.

    Raises:
        CompacterError: E801 if the message is no answer, or one to another request.
    """
    content = {key: value for key, value in message.items() if key != "seq"}
    if message.get("seq") != seq or isinstance(message.get("seq"), bool):
        raise _bad("has another seq", message.get("seq"), expected=f"seq {seq}")
    match content:
        case {"ok": dict(value)} if len(content) == 1:
            return Done(value)
        case {"rejected": {"code": str(code)}} if len(content) == 1:
            return Rejected(code)
        case {"skipped": {"reason": str(reason)}} if len(content) == 1:
            return Skipped(reason)
        case {"error": {"message": str(text)}} if len(content) == 1:
            return Failed(text)
    raise _bad(
        "is no answer",
        content,
        expected='"ok": {...}, "rejected": {"code"}, "skipped": {"reason"} or "error": {"message"}',
    )


def capabilities_to_json(capabilities: Capabilities) -> dict[str, object]:
    """The content of the answer to `start` (CNF-18)."""
    return {
        "implementation": {"name": capabilities.name, "version": capabilities.version},
        "claims": {cls.value: [dtype.value for dtype in dtypes] for cls, dtypes in capabilities.claims.items()},
        "accumulate": {storage.value: sums.value for storage, sums in capabilities.accumulate.items()},
    }


def capabilities_from_json(value: Mapping[str, Any]) -> Capabilities:
    """What an implementation says about itself in its answer to `start`.

    Raises:
        CompacterError: E801 for another shape, and as `check_capabilities`.
    """
    try:
        who = value["implementation"]
        capabilities = Capabilities(
            name=printable(str(who["name"]), _NAME_LENGTH),
            version=printable(str(who["version"]), _NAME_LENGTH),
            claims={
                ConformanceClass(cls): tuple(DType(dtype) for dtype in dtypes)
                for cls, dtypes in value["claims"].items()
            },
            accumulate={DType(storage): DType(sums) for storage, sums in value.get("accumulate", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _bad(
            f"does not describe an implementation ({error!r})",
            dict(value),
            expected='{"implementation": {"name", "version"}, "claims": {class: [types]}, "accumulate": {type: type}}',
        ) from error
    check_capabilities(capabilities)
    return capabilities


def check_capabilities(capabilities: Capabilities) -> None:
    """Refuse claims that cannot be judged.

    Raises:
        CompacterError: E801 for types of a class that has none or no types of one that has some, no class or no
            name at all, or a type without a type of sums.
    """
    if not capabilities.name:
        raise _bad("gives the implementation no name", capabilities.name)
    if not capabilities.claims:
        raise _bad("claims no class", {}, expected="one of " + ", ".join(ConformanceClass))
    for cls, dtypes in capabilities.claims.items():
        if cls.has_numbers != bool(dtypes) or len(set(dtypes)) != len(dtypes):
            expected = (
                "at least one type, each once" if cls.has_numbers else "no types, since the class computes no numbers"
            )
            raise _bad(f"claims class {cls.value} in these types", [*dtypes], expected=expected)
        for dtype in dtypes:
            if dtype not in capabilities.accumulate:
                raise _bad(f"claims {dtype.value} without its type of sums", None, expected=f"accumulate.{dtype.value}")


def _bad(what: str, value: object, expected: str | None = None) -> CompacterError:
    return CompacterError(ErrorCode.E801, f"the message {what}", value=value, expected=expected)


def _shown(line: bytes) -> str:
    return line[:200].decode(errors="replace")
