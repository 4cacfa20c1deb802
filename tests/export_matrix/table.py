"""The matrix as a page of markdown: in short, why cells are empty, then a table of every cell for each precision."""

from typing import Final

from tests.export_matrix.backbones import TASKS
from tests.export_matrix.causes import causes
from tests.export_matrix.cells import Outcome
from tests.export_matrix.exporters import EXPORTERS
from tests.export_matrix.linkages import LINKAGES
from tests.export_matrix.markdown import in_order, section, table
from tests.export_matrix.precisions import PRECISIONS
from tests.export_matrix.results import Results
from tests.export_matrix.summary import ABSENT, summary, totals, trained

HEAD: Final = """\
# The export matrix

Backbones, exporters, precisions of the weights, and linkages of the adapter: what was measured in every combination
that the two environments have. Generated; `python -m tests.export_matrix --help` explains the commands:

```sh
.venv/bin/python -m tests.export_matrix.pretrained
.venv/bin/python -m tests.export_matrix --json build/matrix.json
.venv-interop/bin/python -m tests.export_matrix --json build/matrix-interop.json
.venv/bin/python -m tests.export_matrix --merge build/matrix.json build/matrix-interop.json > docs/export-matrix.md
```

Backbones are tiny, with random weights and adapters that look trained; the one with "trained" in its name is real.
fp16, int8 and int4 are graphs that ONNX Runtime's tools converted before an adapter went into them, "--precision" is
what `compacter graft` does itself. "adapter inside" is a model exported with its adapter."""
LEGEND: Final = """\
A cell: the largest error of an adapter, norm or head over its derived bound, and by itself, against the NumPy
reference inside ONNX Runtime; the largest difference of a logit from PyTorch's float32 model over the largest logit,
below float32 with the share of predictions that are the same; "=" where greedy generation writes PyTorch's tokens, "≠"
where it writes others; fused operators after ONNX Runtime's optimiser, those in adapters not counted: as many as the
backbone's, or "7 of 9". E…: refused with that code. -: not in these results."""


def as_markdown(results: Results) -> str:
    """Everything that the results say."""
    parts = [HEAD, totals(results), summary(results), trained(results), causes(results)]
    details = []
    for precision in in_order(PRECISIONS, (cell.precision for cell in results)):
        chosen = {cell: outcome for cell, outcome in results.items() if cell.precision == precision}
        details.append(section(precision, _details(chosen), level=3))
    return "\n\n".join(filter(None, [*parts, section("Every cell", LEGEND, *details)]))


def _details(results: Results) -> str:
    """One row for each backbone and exporter, one column for each linkage."""
    linkages = in_order(LINKAGES, (cell.linkage for cell in results))
    backbones = in_order(TASKS, (cell.backbone for cell in results))
    exporters = in_order(EXPORTERS, (cell.exporter for cell in results))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for cell, outcome in results.items():
        row = rows.setdefault((cell.backbone, cell.exporter), dict.fromkeys(linkages, ABSENT))
        row[cell.linkage] = _text(outcome, is_exact=PRECISIONS[cell.precision].is_exact)
    ordered = sorted(rows, key=lambda names: (backbones.index(names[0]), exporters.index(names[1])))
    return table(("backbone", "exporter", *linkages), [[*names, *rows[names].values()] for names in ordered])


def _text(one: Outcome, *, is_exact: bool) -> str:
    if not one.is_done:
        return one.refused or f"failed: {one.failed}"
    parts = [] if one.ratio is None else [f"{one.ratio:.2f} ({one.error:.0e})"]
    difference = f"{one.difference:.0e}"
    parts.append(difference if is_exact else f"{difference} {one.agreement:.0%}")
    parts += [] if one.same_tokens is None else ["=" if one.same_tokens else "≠"]
    parts.append(str(one.own) if not one.lost else f"{one.own - sum(one.lost.values())} of {one.own}")
    return ", ".join(parts) if one.within is not False else f"OUTSIDE: {', '.join(parts)}"
