"""Cases as data: what is asked, and what has to come back (CNF-2)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from compacter_core.adapter import DType
from compacter_core.conformance.words import Flag, Op

SHAPES_OF_EXPECTATION = ("code", "value", "tensors", "file", "distribution")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """The right answer; exactly one field is set (CNF-11 to CNF-13).

    Args:
        code: the rejection's code, such as "E304".
        value: a JSON value.
        tensors: a file of the suite with values and bounds.
        file: a file of the suite whose bytes the output has.
        distribution: for each tensor its distribution.
    """

    code: str | None = None
    value: Mapping[str, object] | None = None
    tensors: str | None = None
    file: str | None = None
    distribution: Mapping[str, Mapping[str, object]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question to an implementation.

    Args:
        id: stable name.
        statements: ids of the specification's statements that it tests.
        op: what to do.
        expect: the right answer.
        flags: what is special about it.
        dtypes: types it is run in; empty for operations without numbers.
        files: argument name to a file, by its path inside the suite.
        args: argument name to a JSON value.
        comment: what is special about it, in words.
    """

    id: str
    statements: tuple[str, ...]
    op: Op
    expect: Expectation
    flags: frozenset[Flag] = frozenset()
    dtypes: tuple[DType, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, object] = field(default_factory=dict)
    comment: str = ""
