"""Open a directory of graphs for adapters at run time."""

from pathlib import Path

from compacter_core.adapter import Adapter
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.forms import Form
from compacter_exporters.linkage.bank import BANK
from compacter_exporters.linkage.opening import Opener, OpenSetReport, open_set
from compacter_exporters.linkage.swappable import swappable


def opener_of(linkage: Linkage, *, sums_apart: bool) -> Opener:
    """How a linkage opens models; `sums_apart` as `graft_swappable`."""
    return BANK if linkage is Linkage.BANK else swappable(sums_apart=sums_apart)


def open_directory(
    backbone: Path,
    template: Path | Adapter,
    output: Path,
    linkage: Linkage,
    *,
    sums_apart: bool = False,
    form: Form = Form.AUTO,
) -> OpenSetReport:
    """Write the new directory `output`: the backbone's files, with the places of the template open in its graphs.

    All graphs carry one fingerprint. In a swappable set each has the inputs of the whole template, so that one
    `.onnx_adapter` file fits all; in a bank each has the tensors of its own stacks.

    Args:
        backbone: a directory of exported graphs.
        template: an adapter, its file or directory, as for `graft_swappable`.
        output: created as a whole or not at all.
        linkage: swappable or bank.
        sums_apart: as `graft_swappable`, in the graphs that hold a site.
        form: as `graft_swappable`.

    Raises:
        CompacterError: as `graft_swappable` and `load_set`.
    """
    opener = opener_of(linkage, sums_apart=sums_apart)
    return open_set(backbone, template, output, opener, sums_apart=sums_apart, form=form)
