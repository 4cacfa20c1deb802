"""Which cases of a suite are run: those of claimed classes and types that are asked for (CNF-3, CNF-4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from compacter_core.adapter import DType
from compacter_core.conformance.case import Case
from compacter_core.conformance.implementation import Capabilities
from compacter_core.conformance.suite import Suite
from compacter_core.conformance.words import ConformanceClass
from compacter_core.errors import CompacterError, ErrorCode


@dataclass(frozen=True, slots=True)
class Selection:
    """What to run; None and () stand for everything that the implementation claims.

    Args:
        classes: classes.
        dtypes: types of the classes with numbers; the others are not affected.
        patterns: shell patterns of case ids, one of which has to match.
    """

    classes: tuple[ConformanceClass, ...] | None = None
    dtypes: tuple[DType, ...] | None = None
    patterns: tuple[str, ...] = ()

    def has(self, case: Case) -> bool:
        """Whether the id is chosen."""
        return not self.patterns or any(fnmatchcase(case.id, pattern) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Column:
    """A class in a type.

    Args:
        cls: the class.
        dtype: None for a class without numbers.
        cases: all its cases in the suite.
        chosen: those to run.
    """

    cls: ConformanceClass
    dtype: DType | None
    cases: tuple[Case, ...]
    chosen: tuple[Case, ...]


def columns(suite: Suite, capabilities: Capabilities, selection: Selection) -> list[Column]:
    """Each class and type that is claimed and asked for; with patterns, only those with cases.

    Raises:
        CompacterError: E001 if a class or type is not claimed, or no case is chosen.
    """
    claims = capabilities.claims
    _refuse_unclaimed(selection.classes, list(claims), "class")
    _refuse_unclaimed(selection.dtypes, sorted({dtype for dtypes in claims.values() for dtype in dtypes}), "type")
    found = [
        _column(suite, cls, dtype, selection)
        for cls in ConformanceClass
        if cls in claims and (selection.classes is None or cls in selection.classes)
        for dtype in _types(claims[cls], selection)
    ]
    if not any(column.chosen for column in found):
        raise CompacterError(
            ErrorCode.E001,
            "no case is chosen",
            value=selection.patterns or None,
            remedy="See them with: compacter conformance list.",
        )
    return [column for column in found if column.chosen or not selection.patterns]


def _types(claimed: Sequence[DType], selection: Selection) -> Sequence[DType | None]:
    if not claimed:
        return (None,)
    return [dtype for dtype in claimed if selection.dtypes is None or dtype in selection.dtypes]


def _column(suite: Suite, cls: ConformanceClass, dtype: DType | None, selection: Selection) -> Column:
    cases = tuple(
        case for case in suite.cases.values() if case.op.belongs_to is cls and (dtype is None or dtype in case.dtypes)
    )
    return Column(cls, dtype, cases, tuple(case for case in cases if selection.has(case)))


def _refuse_unclaimed(asked: Sequence[str] | None, claimed: Sequence[str], what: str) -> None:
    for each in asked or ():
        if each not in claimed:
            raise CompacterError(
                ErrorCode.E001,
                f"the implementation does not claim this {what}",
                value=str(each),
                expected="one of " + ", ".join(claimed) if claimed else f"no {what}",
            )
