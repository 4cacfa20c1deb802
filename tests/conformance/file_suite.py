"""The cases about files as a suite, and right answers to them, made once for each run of the tests."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from compacter_core.conformance.case import Case
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.files_cases import add_file_cases
from compacter_core.conformance.implementation import Answer, Capabilities, Implementation, Request
from compacter_core.conformance.implementations import create
from compacter_core.conformance.judge import Reply, judge
from compacter_core.conformance.materialise import materialise
from compacter_core.conformance.suite import Suite, load_suite
from compacter_core.conformance.words import ConformanceClass, Flag, Verdict

FILE_CLASSES = (ConformanceClass.READER, ConformanceClass.WRITER, ConformanceClass.ONNX)


@cache
def _builder() -> Builder:
    builder = Builder()
    add_file_cases(builder)
    return builder


def contents() -> dict[str, bytes]:
    """Every file of the suite by its path."""
    return _builder().contents()


@cache
def suite() -> Suite:
    """The cases about files."""
    with tempfile.TemporaryDirectory() as folder:
        _builder().write(Path(folder))
        return load_suite(folder)


class Right:
    """Right implementations of all classes about files, which remember their answers to unchanged questions."""

    def __init__(self) -> None:
        self._reference = create("reference")
        self._onnx = create("onnxruntime")
        self._known: dict[str, tuple[Answer, bytes | None]] = {}

    def describe(self) -> Capabilities:
        return replace(self._reference.describe(), claims=dict.fromkeys(FILE_CLASSES, ()))

    def run(self, request: Request) -> Answer:
        if any(
            ".repaired" in path.name or ".changed" in path.name or ".bare" in path.name
            for path in request.files.values()
        ):
            return self._ask(request)
        if request.case not in self._known:
            answer = self._ask(request)
            self._known[request.case] = (answer, request.out.read_bytes() if request.out.is_file() else None)
        answer, output = self._known[request.case]
        if output is not None:
            request.out.write_bytes(output)
        return answer

    def _ask(self, request: Request) -> Answer:
        right = self._onnx if request.op.belongs_to is ConformanceClass.ONNX else self._reference
        return right.run(request)


@cache
def right() -> Right:
    """The right implementations."""
    return Right()


def file_cases(*, limits: bool = True) -> list[Case]:
    """All cases about files, those of limits last, since they take long."""
    cases = sorted(suite().cases.values(), key=lambda case: Flag.LIMITS in case.flags)
    return [case for case in cases if limits or Flag.LIMITS not in case.flags]


@contextmanager
def question(case: Case) -> Iterator[Request]:
    """The case's request, its files in place."""
    with tempfile.TemporaryDirectory() as folder:
        yield materialise(suite(), case, None, scratch=Path(folder), prefix="0")


def verdict(case: Case, implementation: Implementation) -> Verdict:
    """What the judge says about an implementation's answer; an exception is an error, as in a run."""
    with question(case) as request:
        try:
            answer = implementation.run(request)
        except Exception:
            return Verdict.ERROR
        return judge(suite(), case, None, [Reply(request, answer)]).verdict
