"""The matrix: every backbone, exporter, linkage and precision, what was measured in each cell, as a markdown table.

    .venv/bin/python -m tests.export_matrix --json build/matrix.json
    .venv-interop/bin/python -m tests.export_matrix --json build/matrix-interop.json
    .venv/bin/python -m tests.export_matrix --merge build/matrix.json build/matrix-interop.json

Each environment fills the cells of its own exporters. A file of results is written cell by cell; a run that finds one
goes on with the cells that it lacks. Exit code 1: a cell failed, or has an error outside its bound.
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

from tests.export_matrix.backbones import TASKS
from tests.export_matrix.cells import AXES, Cell
from tests.export_matrix.exporters import EXPORTERS
from tests.export_matrix.linkages import LINKAGES
from tests.export_matrix.measuring import measure
from tests.export_matrix.precisions import PRECISIONS
from tests.export_matrix.results import Results, read_results, write_results
from tests.export_matrix.table import as_markdown

VALUES: Final[Mapping[str, Mapping[str, object]]] = {
    "backbone": TASKS,
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
        _fill(results, dict(options.only), options.json)
    print(as_markdown(results))
    return int(any(outcome.is_wrong for outcome in results.values()))


def _fill(results: Results, only: Mapping[str, frozenset[str]], path: Path | None) -> None:
    """Measure the wanted cells that have no result."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    exporters = [name for name, exporter in EXPORTERS.items() if exporter.is_here]
    cells = Cell.all(TASKS, exporters, PRECISIONS, LINKAGES)
    missing = [cell for cell in cells if cell.matches(only) and cell not in results]
    with tqdm(total=len(missing), unit="cell", disable=None) as bar:
        for cell, outcome in measure(missing):
            results[cell] = outcome
            bar.set_postfix_str(cell.key, refresh=False)
            bar.update()
            if path is not None:
                write_results(results, path)


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
