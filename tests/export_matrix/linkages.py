"""Ways of an adapter into graphs: the third axis."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from compacter_core.adapter import Adapter
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.choices import MODEL_FILE
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.open_set import open_directory
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


def _open(linkage: Linkage) -> Link:
    open_graph = {Linkage.SWAPPABLE: graft_swappable, Linkage.BANK: graft_bank}[linkage]

    def link(graphs: Path, adapter: Adapter, folder: Path) -> None:
        if (graphs / MODEL_FILE).exists():
            open_graph(graphs / MODEL_FILE, adapter, folder / MODEL_FILE)
        else:
            open_directory(graphs, adapter, folder, linkage)

    return link


LINKAGES: Final[dict[str, Link]] = {
    BACKBONE: _bare,
    **{f"merged {form}": _merged(form) for form in Form if form is not Form.AUTO},
    **{str(linkage): _open(linkage) for linkage in Linkage if linkage is not Linkage.MERGED},
}
