"""Ways of an adapter into graphs: the third axis."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from compacter_core.adapter import Adapter
from compacter_core.linkage.kinds import Linkage
from compacter_core.vocabulary import Activation
from compacter_exporters.choices import MODEL_FILE
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
from compacter_exporters.graft_set import graft_directory
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.open_set import open_directory
from compacter_exporters.linkage.swappable import graft_swappable

BACKBONE: Final = "backbone"
"""The row without an adapter, which the others stand beside."""

Put = Callable[[Path, Any, Path], Any]
"""Writes the graphs of a directory, with an adapter or open for it, to a new one."""


@dataclass(frozen=True, slots=True)
class Linked:
    """A way of an adapter into graphs.

    Args:
        put: the way.
        activation: of the adapters that it is measured with; None for no adapter.
        opens: whether the graphs take adapters at run time: `compacter graft --precision` quantises these before.
    """

    put: Put
    activation: Activation | None = Activation.GELU_NEW
    opens: bool = False


def _bare(graphs: Path, adapter: None, folder: Path) -> None:
    del adapter
    shutil.copytree(graphs, folder)


def _merged(form: Form) -> Put:
    def put(graphs: Path, adapter: Adapter, folder: Path) -> None:
        if (graphs / MODEL_FILE).exists():
            graft(graphs / MODEL_FILE, adapter, folder / MODEL_FILE, form=form)
        else:
            graft_directory(graphs, adapter, folder, form=form)

    return put


def _open(linkage: Linkage, form: Form) -> Put:
    open_graph = {Linkage.SWAPPABLE: graft_swappable, Linkage.BANK: graft_bank}[linkage]

    def put(graphs: Path, adapter: Adapter, folder: Path) -> None:
        if (graphs / MODEL_FILE).exists():
            open_graph(graphs / MODEL_FILE, adapter, folder / MODEL_FILE, form=form)
        else:
            open_directory(graphs, adapter, folder, linkage, form=form)

    return put


_WITHOUT_ACTIVATION: Final = frozenset({Form.DISSOLVED})
LINKAGES: Final = {
    BACKBONE: Linked(_bare, activation=None),
    **{
        f"merged {form}": Linked(
            _merged(form), Activation.IDENTITY if form in _WITHOUT_ACTIVATION else Activation.GELU_NEW
        )
        for form in Form
        if form is not Form.AUTO
    },
    **{
        f"{linkage}{name}": Linked(_open(linkage, form), opens=True)
        for name, form in (("", Form.AUTO), (" sublayer", Form.SUBLAYER))
        for linkage in Linkage
        if linkage is not Linkage.MERGED
    },
}
