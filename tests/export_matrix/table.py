"""The matrix as markdown: a summary, then a table for each precision with the linkages side by side."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tests.export_matrix.cells import Outcome
from tests.export_matrix.linkages import BACKBONE
from tests.export_matrix.precisions import PRECISIONS
from tests.export_matrix.results import Results

_ABSENT: Final = "-"
_COLUMNS: Final = (
    "precision",
    "linkage",
    "cells",
    "refused",
    "within bounds",
    "largest error/bound",
    "largest error",
    "largest difference of a logit",
    "least agreement",
    "tokens equal",
    "all fusions kept",
)
LEGEND: Final = """\
A cell: the largest error of an adapter, norm or head as a share of its derived bound, and by itself, against the NumPy
reference inside ONNX Runtime; the largest difference of a logit from PyTorch's float32 model over the largest logit,
below float32 with the share of predictions that are the same; "=" where greedy generation writes PyTorch's tokens, "≠"
where it writes others; fused operators after ONNX Runtime's optimiser, those in adapters not counted: as many as the
backbone's, or "7 of 9". E…: refused with that code. -: not in the environments of these results."""


def as_markdown(results: Results) -> str:
    """Everything that the results say."""
    parts = [_summary(results), LEGEND]
    for precision in _in_order(PRECISIONS, (cell.precision for cell in results)):
        chosen = {cell: outcome for cell, outcome in results.items() if cell.precision == precision}
        parts.append(f"**{precision}**\n\n{_details(chosen)}")
    refused = Counter(f"{one.refused}: {one.why}" for one in results.values() if one.refused)
    parts.append(_list("Refused", [f"{count} × {why}" for why, count in refused.most_common()]))
    failed = {cell: one for cell, one in results.items() if one.failed}
    parts.append(_list("Failed", [f"{cell.key}: {one.failed}: {one.why}" for cell, one in failed.items()]))
    return "\n\n".join(filter(None, parts))


def _summary(results: Results) -> str:
    """One row for each precision and linkage."""
    rows = []
    kinds = dict.fromkeys((cell.precision, cell.linkage) for cell in results)
    for precision, linkage in sorted(kinds, key=lambda kind: (list(PRECISIONS).index(kind[0]), kind[1])):
        found = [one for cell, one in results.items() if (cell.precision, cell.linkage) == (precision, linkage)]
        done = [one for one in found if one.is_done]
        row = [precision, linkage, str(len(found)), str(sum(one.refused is not None for one in found))]
        row += [_share(one.within for one in done), _most("{:.2f}", [one.ratio for one in done])]
        row += [_most("{:.1e}", [one.error for one in done]), _most("{:.1e}", [one.difference for one in done])]
        row += [_most("{:.3f}", [one.agreement for one in done], choose=min), _share(one.same_tokens for one in done)]
        rows.append([*row, _share(not one.lost for one in done)])
    return _table(_COLUMNS, rows)


def _details(results: Results) -> str:
    """One row for each backbone and exporter, one column for each linkage."""
    linkages = sorted({cell.linkage for cell in results}, key=lambda linkage: (linkage != BACKBONE, linkage))
    rows = {(cell.backbone, cell.exporter): dict.fromkeys(linkages, _ABSENT) for cell in results}
    for cell, outcome in results.items():
        rows[cell.backbone, cell.exporter][cell.linkage] = _text(outcome, is_exact=PRECISIONS[cell.precision].is_exact)
    table = [[*names, *cells.values()] for names, cells in sorted(rows.items())]
    return _table(("backbone", "exporter", *linkages), table)


def _text(one: Outcome, *, is_exact: bool) -> str:
    if not one.is_done:
        return one.refused or f"failed: {one.failed}"
    parts = [] if one.ratio is None else [f"{one.ratio:.2f} ({one.error:.0e})"]
    difference = f"{one.difference:.0e}"
    parts.append(difference if is_exact else f"{difference} {one.agreement:.0%}")
    parts += [] if one.same_tokens is None else ["=" if one.same_tokens else "≠"]
    parts.append(str(one.own) if not one.lost else f"{one.own - sum(one.lost.values())} of {one.own}")
    return ", ".join(parts) if one.within is not False else f"OUTSIDE: {', '.join(parts)}"


def _share(values: Iterable[bool | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known)} of {len(known)}" if known else ""


def _most(form: str, values: Sequence[float | None], choose: Callable[[Iterable[float]], float] = max) -> str:
    known = [value for value in values if value is not None]
    return form.format(choose(known)) if known else ""


def _in_order(order: Iterable[str], values: Iterable[str]) -> list[str]:
    there = set(values)
    return [value for value in order if value in there]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _list(title: str, lines: Sequence[str]) -> str:
    return f"{title}:\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""
