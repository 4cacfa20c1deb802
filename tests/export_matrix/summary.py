"""What the matrix says in short: totals, a cell for each precision, exporter and linkage, and the trained backbone."""

from collections.abc import Iterable, Sequence
from typing import Final

from tests.export_matrix.cells import Cell, Outcome
from tests.export_matrix.exporters import EXPORTERS
from tests.export_matrix.linkages import LINKAGES
from tests.export_matrix.markdown import in_order, section, table
from tests.export_matrix.precisions import PRECISIONS
from tests.export_matrix.results import Results

ABSENT: Final = "-"
LEGEND: Final = """\
A cell sums up the backbones: how many models are within their bounds, of how many cells, and what the others are; for
the backbone alone, which has no bounds, how many models there are. Then the largest error of an adapter, norm or head
over its derived bound, and "=" where every model has as many fused operators after ONNX Runtime's optimiser as its
backbone, not counting those in adapters, or how many models have fewer: "≠ 3". The forms bias-first and column lack
SkipLayerNormalization on purpose: residual sums that are not fused with norms are faster on CPUs (ONX-52). In the form
sublayer norms are within calls, which these sessions run without kernels (ONX-54)."""
TRAINED_LEGEND: Final = """\
The accuracy of the model on the labelled rows, the share of its answers that are those of PyTorch's float32 model, and
the largest difference of a logit between the two over the largest logit. The head of the backbone alone is not trained:
its answers are right by chance. In the heading of a column: PyTorch's accuracy with the same adapter."""


def totals(results: Results) -> str:
    """One sentence of numbers."""
    linked = [one for one in results.values() if one.within is not None]
    refused = sum(one.refused is not None for one in results.values())
    theirs = sum(one.is_theirs for one in results.values())
    failed = sum(one.failed is not None and not one.is_theirs for one in results.values())
    ratio = max((one.ratio for one in linked if one.ratio is not None), default=0.0)
    within = sum(bool(one.within) for one in linked)
    return (
        f"{len(results):,} cells. {within:,} of {len(linked):,} models with an adapter are within their bounds, with "
        f"errors of up to {ratio:.2f} of a bound; {refused:,} cells are refused, {theirs:,} fail in other tools before "
        f"anything of this project runs, {failed:,} fail otherwise."
    )


def summary(results: Results) -> str:
    """For each precision a table of exporters by linkages."""
    parts = []
    for precision in in_order(PRECISIONS, (cell.precision for cell in results)):
        chosen = {cell: one for cell, one in results.items() if cell.precision == precision}
        linkages = in_order(LINKAGES, (cell.linkage for cell in chosen))
        rows = [
            [exporter, *(_summed(_of(chosen, exporter, linkage)) for linkage in linkages)]
            for exporter in in_order(EXPORTERS, (cell.exporter for cell in chosen))
        ]
        parts.append(f"**{precision}**\n\n{table(('exporter', *linkages), rows)}")
    return section("Summary", LEGEND, *parts)


def trained(results: Results) -> str:
    """The task metric of backbones with labelled rows; nothing where there is none."""
    names = dict.fromkeys(cell.backbone for cell, one in results.items() if one.accuracy is not None)
    parts = [_of_labelled({cell: one for cell, one in results.items() if cell.backbone == name}) for name in names]
    return "\n\n".join(
        section(f"Accuracy: {name}", TRAINED_LEGEND, part) for name, part in zip(names, parts, strict=True)
    )


def _of(results: Results, exporter: str, linkage: str) -> list[Outcome]:
    return [one for cell, one in results.items() if (cell.exporter, cell.linkage) == (exporter, linkage)]


def _summed(found: Sequence[Outcome]) -> str:
    if not found:
        return ABSENT
    done = [one for one in found if one.is_done]
    bounded = [one for one in done if one.within is not None]
    good = sum(one.within is not False for one in done)
    kinds = {
        "refused": sum(one.refused is not None for one in found),
        "failed": sum(one.failed is not None for one in found),
        "outside": len(done) - good,
    }
    others = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    text = f"{good}/{len(found)} ({others})" if others else f"{good}/{len(found)}"
    if not bounded:
        return text
    fewer = sum(bool(one.lost) for one in bounded)
    return f"{text}, {max(one.ratio or 0.0 for one in bounded):.2f}, {f'≠ {fewer}' if fewer else '='}"


def _of_labelled(results: Results) -> str:
    linkages = in_order(LINKAGES, (cell.linkage for cell in results))
    kinds = dict.fromkeys((cell.precision, cell.exporter) for cell in results)
    order = list(PRECISIONS), list(EXPORTERS)
    rows = []
    for precision, exporter in sorted(kinds, key=lambda kind: tuple(map(_place, order, kind))):
        found = {
            cell.linkage: one
            for cell, one in results.items()
            if (cell.precision, cell.exporter) == (precision, exporter)
        }
        rows.append([precision, exporter, *(_metric(found.get(linkage)) for linkage in linkages)])
    return table(("precision", "exporter", *(_heading(results, linkage) for linkage in linkages)), rows)


def _place(order: Sequence[str], value: str) -> int:
    return order.index(value) if value in order else len(order)


def _heading(results: Results, linkage: str) -> str:
    """The linkage, with PyTorch's accuracy where it is the same in all its cells."""
    accuracies = {one.torch_accuracy for cell, one in _with_linkage(results, linkage)} - {None}
    inside = any(one.within is None for _, one in _with_linkage(results, linkage) if one.is_done)
    return linkage if inside or len(accuracies) != 1 else f"{linkage} ({accuracies.pop():.3f})"


def _with_linkage(results: Results, linkage: str) -> Iterable[tuple[Cell, Outcome]]:
    return ((cell, one) for cell, one in results.items() if cell.linkage == linkage)


def _metric(one: Outcome | None) -> str:
    if one is None:
        return ABSENT
    if not one.is_done:
        return one.refused or f"failed: {one.failed}"
    parts = [] if one.accuracy is None else [f"{one.accuracy:.3f}"]
    return ", ".join([*parts, f"{one.agreement:.1%}", f"{one.difference:.0e}"])
