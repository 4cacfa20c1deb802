"""Results in a file, which is written cell by cell, so that a run goes on where another one stopped."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from compacter_core.format.atomic import atomic_write
from tests.export_matrix.cells import Cell, Outcome

Results = dict[Cell, Outcome]


def read_results(paths: Iterable[Path]) -> Results:
    """What several files hold; of a cell in two of them the last one's."""
    found: Results = {}
    for path in paths:
        held = json.loads(path.read_text(encoding="utf-8"))
        found |= {Cell.of(key): Outcome(**outcome) for key, outcome in held.items()}
    return found


def write_results(results: Mapping[Cell, Outcome], path: Path) -> None:
    """Write all results, by the cells' names."""
    data = {cell.key: outcome.as_dict() for cell, outcome in sorted(results.items())}
    atomic_write(path, json.dumps(data, indent=1).encode())
