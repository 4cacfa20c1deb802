"""What follows a site's linear layer: the residual sum and the norm, found by walking downstream from h."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from compacter_core.config import Backbone
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.vocabulary import NormStyle
from compacter_exporters.graph import constant_of, consumers, other_input
from compacter_exporters.norms import Norm

_OPTIMISED = "Graft into the export as the exporter wrote it; whatever stands in this place is not read."


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """The end of a sublayer.

    Args:
        residual: r.
        add: the node that computes r + h.
        norm: N, or None on a pre-norm backbone.
    """

    residual: ir.Value
    add: ir.Node
    norm: Norm | None

    @property
    def sum(self) -> ir.Value:
        """The output r + h."""
        return self.add.outputs[0]

    @property
    def result(self) -> ir.Value:
        """What the sublayer hands on: N(r + h), or r + h on a pre-norm backbone."""
        return self.sum if self.norm is None else self.norm.output


def surroundings_of(site_id: str, h: ir.Value, norms: Sequence[Norm], backbone: Backbone | None) -> Surroundings:
    """The residual sum and the norm behind h.

    The norm is also compared with the one the adapter's configuration names for this site, by its position among all.

    Raises:
        CompacterError: E604 if there is not exactly one residual sum, or another norm than expected behind it.
    """
    sums = [node for node in consumers(h, "Add") if constant_of(other_input(node, h)) is None]
    residual = other_input(sums[0], h) if sums else None
    if len(sums) != 1 or residual is None:
        raise CompacterError(
            ErrorCode.E604,
            f"no single residual sum follows the linear layer of site {site_id}",
            value=[node.op_type for node in h.consumers()],
            expected="one Add",
            remedy=_OPTIMISED,
        )
    if backbone is not None and backbone.norm_style is NormStyle.PRE:
        return Surroundings(residual, sums[0], None)
    return Surroundings(residual, sums[0], _norm_behind(site_id, sums[0].outputs[0], norms, backbone))


def _norm_behind(site_id: str, total: ir.Value, norms: Sequence[Norm], backbone: Backbone | None) -> Norm:
    behind = [(index, norm) for index, norm in enumerate(norms) if norm.input is total]
    if len(behind) != 1:
        raise CompacterError(
            ErrorCode.E604,
            f"no single layer norm follows the residual sum of site {site_id}",
            value=[node.op_type for node in total.consumers()],
            expected="a LayerNormalization, or ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add",
            remedy=_OPTIMISED,
        )
    index, norm = behind[0]
    modules = None if backbone is None else backbone.modules.get(site_id)
    if backbone is None or modules is None or modules.norm is None or len(norms) != len(backbone.norms):
        return norm
    if backbone.norms[index] != modules.norm:
        raise CompacterError(
            ErrorCode.E604,
            f"another norm than expected follows site {site_id}",
            value=backbone.norms[index],
            expected=modules.norm,
            remedy="Export the backbone from the checkpoint the adapter was trained on.",
        )
    return norm
