"""The matrix: every backbone, exporter, linkage and precision, what was measured in each cell, as a page of markdown.

    .venv/bin/python -m tests.export_matrix --json build/matrix.json
    .venv-interop/bin/python -m tests.export_matrix --json build/matrix-interop.json
    .venv/bin/python -m tests.export_matrix --merge build/matrix.json build/matrix-interop.json

Each environment fills the cells of its own exporters. A file of results is written cell by cell; a run that finds one
goes on with the cells that it lacks. Exit code 1: a cell failed and not in another tool alone, or has an error outside
its bound. The page in docs/ is printed by --merge. The real backbone is made by `tests.export_matrix.pretrained`.
"""

import argparse
import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
import transformers
from tqdm import tqdm

from tests.export_matrix import pretrained
from tests.export_matrix.backbones import TASKS
from tests.export_matrix.cells import AXES, Cell
from tests.export_matrix.exporters import EXPORTERS
from tests.export_matrix.linkages import BACKBONE, LINKAGES
from tests.export_matrix.measuring import measure
from tests.export_matrix.precisions import PRECISIONS
from tests.export_matrix.results import Results, read_results, write_results
from tests.export_matrix.table import as_markdown

VALUES: Final[Mapping[str, Mapping[str, object]]] = {
    "backbone": dict.fromkeys((*TASKS, pretrained.NAME)),
    "exporter": EXPORTERS,
    "precision": PRECISIONS,
    "linkage": LINKAGES,
}
_EXAMPLES: Final = """\
examples:
  python -m tests.export_matrix --only 'backbone=bert;t5' --only precision=fp32
  python -m tests.export_matrix --only 'exporter=transformers, ORT-saved' --json build/matrix.json
  python -m tests.export_matrix --merge build/matrix.json build/matrix-interop.json > build/matrix.md"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill what is missing, print the table."""
    options = _parser().parse_args(arguments)
    results = read_results(options.merge or ([options.json] if options.json and options.json.exists() else []))
    if not options.merge:
        only = dict(options.only)
        done = {cell: one for cell, one in results.items() if one.is_done or not (options.again and cell.matches(only))}
        results = _filled(done, only, options.json)
    print(as_markdown(results))
    return int(any(outcome.is_wrong for outcome in results.values()))


def _filled(results: Results, only: Mapping[str, frozenset[str]], path: Path | None) -> Results:
    """The results, with those of the wanted cells that had none."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    exporters = [name for name, exporter in EXPORTERS.items() if exporter.is_here]
    cells = [cell for cell in Cell.all(VALUES["backbone"], exporters, PRECISIONS, LINKAGES) if cell.matches(only)]
    if any(cell.backbone == pretrained.NAME for cell in cells) and not pretrained.is_here():
        cells = [cell for cell in cells if cell.backbone != pretrained.NAME]
        print(
            f"left out: {pretrained.NAME}, which is not all in {pretrained.DIRECTORY}; "
            f"`python -m {pretrained.__name__}` makes it",
            file=sys.stderr,
        )
    missing = [cell for cell in cells if cell not in results and _is_possible(cell)]
    with tqdm(total=len(missing), unit="cell", disable=None) as bar:
        for cell, outcome in measure(missing):
            results[cell] = outcome
            bar.set_postfix_str(cell.key, refresh=False)
            bar.update()
            if path is not None:
                write_results(results, path)
    return results


def _is_possible(cell: Cell) -> bool:
    """Whether the exporter has such a backbone. Nothing is linked to a graph that has the adapter inside."""
    exporter = EXPORTERS[cell.exporter]
    can = exporter.backbones is None or cell.backbone in exporter.backbones
    return can and (cell.linkage == BACKBONE or not exporter.has_adapter)


def _parser() -> argparse.ArgumentParser:
    values = "\n".join(f"  {axis}: {'; '.join(names)}" for axis, names in VALUES.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.export_matrix",
        description=__doc__,
        epilog=f"axes:\n{values}\n\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        type=_wanted,
        action="append",
        default=[],
        metavar="AXIS=VALUE;VALUE",
        help="cells with one of these values; may be repeated for several axes",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="results, read if there are some and then completed")
    parser.add_argument("--again", action="store_true", help="measure cells again that were refused or failed")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="FILE", help="print the table of these results, and measure nothing"
    )
    return parser


def _wanted(text: str) -> tuple[str, frozenset[str]]:
    axis, _, values = text.partition("=")
    wanted = frozenset(values.split(";"))
    unknown = sorted(wanted - VALUES.get(axis, {}).keys())
    if axis not in AXES or unknown:
        raise argparse.ArgumentTypeError(f"no such axis, or no such value of it: {axis} {unknown}")
    return axis, wanted


if __name__ == "__main__":
    sys.exit(main())
