"""Filling cells: a backbone is made once, exported once for an exporter, quantised once for a precision."""

import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from compacter_core.errors import CompacterError
from compacter_core.vocabulary import Activation
from compacter_exporters.checks import Check
from compacter_exporters.choices import MODEL_FILE
from compacter_exporters.verify import VerifyReport, verify
from tests.export_matrix import pretrained
from tests.export_matrix.backbones import Backbone, make_backbone
from tests.export_matrix.cells import Cell, Outcome
from tests.export_matrix.exporters import EXPORTERS
from tests.export_matrix.fused import count_optimised
from tests.export_matrix.linkages import LINKAGES
from tests.export_matrix.precisions import PRECISIONS
from tests.export_matrix.running import Graphs

Filled = Iterator[tuple[Cell, Outcome]]


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """An exported backbone in some precision.

    Args:
        graphs: with what is done before an adapter goes into them.
        bare: these, with what is done afterwards.
        own: the fused operators of `bare`.
    """

    graphs: Path
    bare: Path
    own: Counter[str]


def measure(cells: Sequence[Cell]) -> Filled:
    """The outcome of each cell, in an order in which those with the same graphs follow each other."""
    for name, of_backbone in groupby(sorted(cells), key=lambda cell: cell.backbone):
        with tempfile.TemporaryDirectory() as folder:
            backbone = _made(name, Path(folder))
            for _, of_exporter in groupby(of_backbone, key=lambda cell: cell.exporter):
                yield from _of_exporter(backbone, list(of_exporter))


def _made(name: str, folder: Path) -> Backbone:
    return pretrained.make_pretrained(folder) if name == pretrained.NAME else make_backbone(name, folder)


def _of_exporter(backbone: Backbone, cells: Sequence[Cell]) -> Filled:
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "exported"
        try:
            EXPORTERS[cells[0].exporter].export(backbone, exported)
        except Exception as error:
            yield from ((cell, _refusal(error)) for cell in cells)
            return
        for _, of_precision in groupby(cells, key=lambda cell: cell.precision):
            yield from _of_precision(backbone, exported, list(of_precision))


def _of_precision(backbone: Backbone, exported: Path, cells: Sequence[Cell]) -> Filled:
    with tempfile.TemporaryDirectory() as folder:
        graphs = Path(folder) / "graphs"
        precision = PRECISIONS[cells[0].precision]
        try:
            precision.prepare(exported, graphs)
            bare = Path(shutil.copytree(graphs, Path(folder) / "bare"))
            precision.finish(bare)
            ready = _Ready(graphs, bare, count_optimised(bare.glob("*.onnx")))
        except Exception as error:
            yield from ((cell, _refusal(error, is_theirs=precision.after is None)) for cell in cells)
            return
        for index, cell in enumerate(cells):
            yield cell, _of_cell(backbone, ready, cell, Path(folder) / str(index))


def _of_cell(backbone: Backbone, ready: _Ready, cell: Cell, folder: Path) -> Outcome:
    linked = LINKAGES[cell.linkage]
    adapter = None if linked.activation is None else backbone.adapters[linked.activation]
    inside = Activation.GELU_NEW if EXPORTERS[cell.exporter].has_adapter else None
    expected = backbone.computed[linked.activation or inside]
    try:
        if linked.opens:
            linked.put(ready.bare, adapter, folder)
        else:
            linked.put(ready.graphs, adapter, folder)
            PRECISIONS[cell.precision].finish(folder)
        report = None if adapter is None else verify(_model(folder), adapter)
        model = Graphs(folder, adapter)
        got, written = model.logits(backbone), model.written(backbone)
        fused = count_optimised(model.files)
    except Exception as error:
        return _refusal(error)
    scale = np.abs(expected.logits).max()
    # A head that did not train with the adapter is right by chance.
    truth = backbone.truth if (linked.activation or inside) else None
    return Outcome(
        within=None if report is None else report.ok,
        ratio=None if report is None else _adapters(report).ratio,
        error=None if report is None else _adapters(report).error,
        difference=float(np.abs(got - expected.logits).max() / scale),
        agreement=float(np.mean(got.argmax(-1) == expected.logits.argmax(-1))),
        accuracy=None if truth is None else float(np.mean(got.argmax(-1) == truth)),
        torch_accuracy=None if truth is None else float(np.mean(expected.logits.argmax(-1) == truth)),
        same_tokens=all(tokens == expected.written for tokens in written) if written else None,
        fused=fused.total(),
        own=ready.own.total(),
        lost=dict(ready.own - fused),
    )


def _adapters(report: VerifyReport) -> Check:
    """The worst of adapters, norms and heads; residual sums are one rounding, always close to its bound."""
    return Check.worst([*report.sites.values(), *report.norms.values(), *report.head.values()])


def _model(folder: Path) -> Path:
    return folder / MODEL_FILE if (folder / MODEL_FILE).exists() else folder


def _refusal(error: Exception, *, is_theirs: bool = False) -> Outcome:
    """A refusal by its code; whatever else an exporter, a quantiser or a runtime raised is a failure."""
    if isinstance(error, CompacterError):
        return Outcome(refused=error.code.name, why=error.message)
    why = str(error).strip().partition("\n")[0] or f"in {traceback.extract_tb(error.__traceback__)[-1].name}"
    return Outcome(failed=type(error).__name__, why=why, is_theirs=is_theirs)
