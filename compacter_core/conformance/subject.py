"""What the runner puts its questions to: an implementation in this process, or one behind a pipe."""

import time
from dataclasses import dataclass
from typing import Protocol

from compacter_core.conformance.implementation import Answer, Capabilities, Failed, Implementation, Request
from compacter_core.conformance.protocol import check_capabilities


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What one question may take: time, and memory above what the process had before it, in bytes."""

    seconds: float
    memory: int


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer and what it took; `peak_memory` in bytes, None where it is not measured."""

    answer: Answer
    seconds: float
    peak_memory: int | None


class Subject(Protocol):
    """An implementation under test."""

    @property
    def has_memory_ceiling(self) -> bool:
        """Whether memory is measured, and its ceiling kept."""

    def describe(self) -> Capabilities:
        """Name and claims.

        Raises:
            CompacterError: E001 or E801 if there is no implementation, or claims that cannot be judged.
        """

    def ask(self, request: Request, ceiling: Ceiling) -> Asked:
        """Ask; whatever goes wrong becomes the answer `Failed`."""

    def close(self) -> None:
        """End it."""


class InProcess:
    """An implementation in this process: no ceilings, since nothing could stop it."""

    has_memory_ceiling = False

    def __init__(self, implementation: Implementation) -> None:
        self._implementation = implementation

    def describe(self) -> Capabilities:
        """Name and claims.

        Raises:
            CompacterError: E801 for claims that cannot be judged.
        """
        capabilities = self._implementation.describe()
        check_capabilities(capabilities)
        return capabilities

    def ask(self, request: Request, ceiling: Ceiling) -> Asked:
        """Ask; an exception becomes the answer `Failed`, a ceiling is not kept."""
        began = time.perf_counter()
        try:
            answer = self._implementation.run(request)
        except Exception as error:  # a broken implementation is a finding, not an end of the run
            answer = Failed(f"{type(error).__name__}: {error}")
        return Asked(answer, time.perf_counter() - began, None)

    def close(self) -> None:
        """Nothing to end."""
