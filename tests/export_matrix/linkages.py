"""Ways of an adapter into graphs: the third axis."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from compacter_core.adapter import Adapter
from compacter_exporters.choices import MODEL_FILE
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable

BACKBONE: Final = "backbone"
"""The row without an adapter, which the others stand beside."""

Link = Callable[[Path, Adapter, Path], Any]


def _bare(graphs: Path, adapter: Adapter, folder: Path) -> None:
    del adapter
    shutil.copytree(graphs, folder)


def _merged(form: Form) -> Link:
    def link(graphs: Path, adapter: Adapter, folder: Path) -> None:
        if (graphs / MODEL_FILE).exists():
            graft(graphs / MODEL_FILE, adapter, folder / MODEL_FILE, form=form)
        else:
            graft_directory(graphs, adapter, folder, form=form)

    return link


def _open(open_graph: Link) -> Link:
    def link(graphs: Path, adapter: Adapter, folder: Path) -> None:
        open_graph(graphs / MODEL_FILE, adapter, folder / MODEL_FILE)

    return link


LINKAGES: Final[dict[str, Link]] = {
    BACKBONE: _bare,
    **{f"merged {form}": _merged(form) for form in Form if form is not Form.AUTO},
    "swappable": _open(graft_swappable),
    "bank": _open(graft_bank),
}
