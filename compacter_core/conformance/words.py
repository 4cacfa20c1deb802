"""The finite choices of the conformance suite, as enums whose values are the words of its files and messages."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class ConformanceClass(StrEnum):
    """What an implementation can claim to do (CNF-4)."""

    READER = "R"
    WRITER = "W"
    FORWARD = "F"
    GRADIENT = "G"
    PLACEMENT = "P"
    INITIALISATION = "I"
    ONNX = "O"

    @property
    def has_numbers(self) -> bool:
        """Whether it is claimed per data type."""
        return self in (ConformanceClass.FORWARD, ConformanceClass.GRADIENT, ConformanceClass.PLACEMENT)


class Op(StrEnum):
    """What a case asks an implementation to do."""

    READ = "read"
    COUNT = "count"
    MATCH = "match"
    WRITE = "write"
    FORWARD = "forward"
    GRADIENT = "gradient"
    SUBLAYER = "sublayer"
    INITIALISE = "initialise"
    EXTRACT = "extract"
    GRAFT = "graft"

    @property
    def belongs_to(self) -> ConformanceClass:
        """The class it is part of."""
        return _CLASSES[self]


_CLASSES: Final[Mapping[Op, ConformanceClass]] = MappingProxyType(
    {
        Op.READ: ConformanceClass.READER,
        Op.COUNT: ConformanceClass.READER,
        Op.MATCH: ConformanceClass.READER,
        Op.WRITE: ConformanceClass.WRITER,
        Op.FORWARD: ConformanceClass.FORWARD,
        Op.GRADIENT: ConformanceClass.GRADIENT,
        Op.SUBLAYER: ConformanceClass.PLACEMENT,
        Op.INITIALISE: ConformanceClass.INITIALISATION,
        Op.EXTRACT: ConformanceClass.ONNX,
        Op.GRAFT: ConformanceClass.ONNX,
    }
)


class Flag(StrEnum):
    """What is special about a case."""

    EXACT = "exact"
    EDGE = "edge"
    LARGE = "large"
    LIMITS = "limits"


class Verdict(StrEnum):
    """How a case went."""

    PASSED = "passed"
    FAILED = "failed"
    """The answer is wrong."""
    ERROR = "error"
    """There is no answer: a crash, a ceiling, a message that is none."""
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    """Wrong, as the list of expected failures says."""
    XPASSED = "xpassed"
    """Right, although the list of expected failures says otherwise."""
