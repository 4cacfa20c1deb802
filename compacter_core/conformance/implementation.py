"""What the runner talks to: the interface of an implementation, in process or behind a pipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from compacter_core.adapter import DType
from compacter_core.conformance.words import ConformanceClass, Op


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an implementation says about itself (CNF-18).

    Args:
        name: of the implementation.
        version: of the implementation.
        claims: class to the types it is claimed in; no types for a class without numbers.
        accumulate: for each claimed type the type of sums.
    """

    name: str
    version: str
    claims: Mapping[ConformanceClass, tuple[DType, ...]]
    accumulate: Mapping[DType, DType] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One case in one type, with its files in place (CNF-15).

    Args:
        case: id of the case.
        op: what to do.
        dtype: of adapter, inputs and outputs; None for operations without numbers.
        files: argument name to an existing file.
        args: argument name to a JSON value.
        out: where an output file goes; it does not exist yet.
    """

    case: str
    op: Op
    dtype: DType | None
    files: Mapping[str, Path]
    args: Mapping[str, object]
    out: Path


@dataclass(frozen=True, slots=True)
class Done:
    """The work is done; what was to be written is in `Request.out`."""

    value: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The input was refused with this code."""

    code: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """The implementation does not offer this."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer: an exception, a crash, a ceiling, or a message that is none."""

    message: str


Answer = Done | Rejected | Skipped | Failed


class Implementation(Protocol):
    """An implementation in this process. An exception from `run` counts as an error of the case."""

    def describe(self) -> Capabilities:
        """Name and claims."""

    def run(self, request: Request) -> Answer:
        """Do what a case asks."""
