"""Why cells are empty, and which fused operators others lack: those with the same reason together."""

import re
from collections.abc import Callable, Iterable
from typing import Final

from tests.export_matrix.cells import AXES, Outcome
from tests.export_matrix.markdown import in_order, section, table
from tests.export_matrix.results import Results

REFUSED: Final = "An error code of specs/errors.md, what it said of how many cells, and which these are."
THEIRS: Final = "Another tool fails, or what it made cannot be run, before anything of this project is done to it."
LOST: Final = """\
Operators that ONNX Runtime's optimiser makes of the backbone, and of the model with an adapter less often. A head that
an adapter brings stays in floating point, and so does a layer that an adapter is dissolved in. Where a head is given at
run time, its activation follows the choice between its layer and the backbone's, and is no part of a FusedGemm."""

Names = tuple[str, ...]
_SAID: Final[Names] = ("code", "reason")
_RAISED: Final[Names] = ("exception", "reason")

# Names of nodes, files and modules, which differ between cells with one reason.
_NAME: Final = re.compile(r"\S*[/_.\d]\S*")
_NAMES: Final = re.compile(r"…( …)+")
_LONGEST: Final = 160
_FEW: Final = 3


def causes(results: Results) -> str:
    """Sections of what was refused, of what failed and of which fused operators are fewer than the backbone's."""
    refused = _table(results, lambda one: [(one.refused, reason(one.why))] if one.refused else [], _SAID)
    theirs = _table(results, lambda one: _failure(one) if one.is_theirs else [], _RAISED)
    failed = _table(results, lambda one: [] if one.is_theirs else _failure(one), _RAISED)
    lost = _table(results, lambda one: [(name,) for name in one.lost], ("operator",))
    parts = (
        section("Refused", REFUSED if refused else "", refused),
        section("Failed in other tools", THEIRS if theirs else "", theirs),
        section("Failed", failed),
        section("Fewer fused operators", LOST if lost else "", lost),
    )
    return "\n\n".join(filter(None, parts))


def reason(why: str | None) -> str:
    """What was said, without the names in it."""
    text = _NAMES.sub("…", _NAME.sub("…", why or ""))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _failure(one: Outcome) -> list[Names]:
    return [(one.failed, reason(one.why))] if one.failed else []


def _table(results: Results, names_of: Callable[[Outcome], Iterable[Names]], header: Names) -> str:
    """A row for each of the names that cells have."""
    groups: dict[Names, Results] = {}
    for cell, one in results.items():
        for names in names_of(one):
            groups.setdefault(names, {})[cell] = one
    rows = [
        [*names, str(len(group)), *(_values(results, group, axis) for axis in AXES)]
        for names, group in sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1])))
    ]
    return table((*header, "cells", *AXES), rows) if rows else ""


def _values(results: Results, group: Results, axis: str) -> str:
    """The values of the group's cells on an axis, as briefly as that can be said."""
    every = dict.fromkeys(getattr(cell, axis) for cell in results)
    there = in_order(every, (getattr(cell, axis) for cell in group))
    others = [value for value in every if value not in there]
    if not others:
        return "all" if len(every) > 1 else there[0]
    return f"all but {'; '.join(others)}" if len(others) < min(_FEW, len(there)) else "; ".join(there)
