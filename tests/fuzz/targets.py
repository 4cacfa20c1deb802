"""What is fuzzed, and what has to hold for every input.

A parser ends with a code that its documentation names, or with a result that can be written and read again. Anything
else, any other exception included, leaves the target and is a finding.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import config_from_json, config_to_json
from compacter_core.format.container import header_bytes, parse_header
from compacter_core.format.reader import check_copy, parse_adapter
from compacter_core.format.writer import adapter_bytes
from tests.format.builders import CONFIG
from tests.fuzz.edits import edited_config, edited_file, edited_header
from tests.fuzz.samples import config_seeds, file_seeds


class InvariantError(Exception):
    """An invariant does not hold."""


@dataclass(frozen=True, slots=True)
class Target:
    """A function of bytes that returns for every good outcome, and inputs to start from.

    `max_length` leaves room for the smallest valid inputs and little more: longer ones are slower by as much, and the
    targets that edit larger samples are there for them.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    max_length: int


def fuzz_header(data: bytes) -> None:
    """`parse_header`: E101 to E112, or entries that tile the file, whose rewritten header says the same."""
    with _Only(_HEADER):
        header = parse_header(data)
        infos = {name: entry.info for name, entry in header.entries.items()}
        end = sum(info.nbytes for info in infos.values())
        _require(header.data_start + end == len(data), "the tensors do not cover the file")
        again = parse_header(header_bytes({}, infos.items()), size=len(header_bytes({}, infos.items())) + end)
        _require(dict(again.entries) == dict(header.entries), "the header changes when it is written again")


def fuzz_config(data: bytes) -> None:
    """`config_from_json`: one of its codes, or a configuration whose canonical text gives an equal one."""
    _check_config(data.decode(errors="surrogateescape"))


def fuzz_copy(data: bytes) -> None:
    """`check_copy`: one of its codes, or a text that says the same as the configuration."""
    with _Only(_CONFIG | {ErrorCode.E206}):
        check_copy(data, CONFIG)
        text = config_to_json(config_from_json(data.decode()))
        _require(text == config_to_json(CONFIG), "another configuration passes as a copy")


def fuzz_file(data: bytes) -> None:
    """`parse_adapter`: one of its codes, or an adapter whose canonical bytes give an equal one and themselves again."""
    with _Only(_FILE):
        adapter = parse_adapter(data)
        written = adapter_bytes(adapter)
        again = parse_adapter(written)
        _require(adapter_bytes(again) == written, "canonical bytes are written differently a second time")
        _require(_same(adapter, again), "an adapter changes when it is written and read")


def _check_config(text: str) -> None:
    with _Only(_CONFIG):
        config = config_from_json(text)
        written = config_to_json(config)
        _require(config_to_json(config_from_json(written)) == written, "the canonical text is written differently")


class _Only:
    """Lets a `CompacterError` with one of the codes pass; its message has to be one printable line, not too long."""

    def __init__(self, codes: frozenset[ErrorCode]) -> None:
        self._codes = codes

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, CompacterError):
            return False
        text = str(error)
        _require(error.code in self._codes, f"undocumented code: {text}")
        _require(text.isprintable() and len(text) < _LONGEST, f"unfit for a terminal: {text!r}")
        return True


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantError(what)


def _same(one: Adapter, other: Adapter) -> bool:
    arrays, others = {**one.tensors, **one.sketches}, {**other.tensors, **other.sketches}
    return (
        one.dtype is other.dtype
        and config_to_json(one.config) == config_to_json(other.config)
        and arrays.keys() == others.keys()
        and all(
            array.dtype == others[name].dtype
            and array.shape == others[name].shape
            and np.asarray(array).tobytes() == np.asarray(others[name]).tobytes()
            for name, array in arrays.items()
        )
    )


def _numbered(first: int, last: int) -> frozenset[ErrorCode]:
    return frozenset(code for code in ErrorCode if first <= int(code.name[1:]) <= last)


_LONGEST: Final = 4_000
_HEADER: Final = _numbered(101, 112)
_CONFIG: Final = (
    _numbered(202, 205)
    | _numbered(207, 211)
    | {
        ErrorCode.E104,
        ErrorCode.E401,
        ErrorCode.E404,
        ErrorCode.E405,
    }
)
_FILE: Final = _HEADER | _CONFIG | _numbered(301, 309) | {ErrorCode.E201}


def _starts() -> Iterable[bytes]:
    """Seeds of the targets that read bytes as edits: each sample, each kind of edit."""
    return [bytes([sample, kind, 0, place, 0, 5]) for sample in range(5) for kind in range(4) for place in (0, 9)]


TARGETS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "header": Target(fuzz_header, file_seeds, 512),
        "config": Target(fuzz_config, config_seeds, 1_024),
        "copy": Target(fuzz_copy, config_seeds, 1_024),
        "file": Target(fuzz_file, file_seeds, 1_152),
        "header-edits": Target(lambda data: fuzz_header(edited_header(data)), _starts, 64),
        "config-edits": Target(lambda data: _check_config(edited_config(data)), _starts, 64),
        "file-edits": Target(lambda data: fuzz_file(edited_file(data)), _starts, 64),
    }
)
