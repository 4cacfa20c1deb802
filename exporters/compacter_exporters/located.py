"""Where an adapter is in a grafted graph, read from the graph's structure alone.

Verification must not believe what the graft wrote down about itself. A site's linear layer is found by its sketch
again; from there the placement says what must follow, and anything else is reported: an adapter that is not there, a
residual sum that goes past it, a value that is read by something that should not see it any more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array, SiteParameters
from compacter_core.config import Attach
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.reference.column import activated
from compacter_core.vocabulary import Input, NormStyle, Skip
from compacter_exporters.bias_last import bias_added_last
from compacter_exporters.dissolving import DissolvedLinear
from compacter_exporters.fused.skip_norms import FusedSum, fused_sum
from compacter_exporters.graph import Constant, constant_of, consumers, is_op, other_input, producer_of
from compacter_exporters.linears import Linear, reshape_behind
from compacter_exporters.norms import Norm, between
from compacter_exporters.sites import FoundSite


@dataclass(frozen=True, slots=True, eq=False)
class Sum:
    """A residual sum: total = residual + addend."""

    total: ir.Value
    residual: ir.Value
    addend: ir.Value

    @property
    def fused(self) -> FusedSum | None:
        """How a fused operator computes it, if one does."""
        return fused_sum(self.total)


@dataclass(frozen=True, slots=True, eq=False)
class LocatedSite:
    """One adapted sublayer.

    Args:
        linear: the sublayer's last linear layer; without a bias of its own in the fold form.
        folded_bias: in the forms fold and bias-last, the constant bu' + b, or None where there is none.
        bias_is_last: whether a node of its own adds it to the rest.
        column: in the form column, the last row of the up-projection's matrix, (bu' + b) / act(z).
        x: what the adapter reads: m in the fold form, the layer's input where the adapter is dissolved in the layer.
        skip: what its output is added to: m in the fold form.
        output: o.
        sums: the residual sums of the sublayer, r + h or r + o.
        norms: N behind these sums, where the placement uses it.
    """

    linear: Linear
    folded_bias: Array | None
    bias_is_last: bool
    column: Array | None
    x: ir.Value
    skip: ir.Value
    output: ir.Value
    sums: tuple[Sum, ...]
    norms: tuple[Norm, ...]

    @property
    def is_folded(self) -> bool:
        """Whether the linear layer's bias is inside the adapter's constants, or it may well be: there is none."""
        return self.linear.bias is None and self.x is self.skip is self.linear.output

    @property
    def absorbed(self) -> Array | None:
        """The constant c = bu' + b where it is added last, o = (m + p) + c, by a node or by a fused operator."""
        if self.bias_is_last:
            return self.folded_bias
        last = None if not self.is_folded or not self.sums else self.sums[-1].fused
        return None if last is None else last.bias

    def is_bias_first(self, site: SiteParameters) -> bool:
        """Whether the last bias of the adapter is in the linear layer's: it has one, and nothing is added to p."""
        reads_and_adds = self.x is self.skip is self.linear.output
        return reads_and_adds and site.up.b is not None and self.linear.bias is not None and self.folded_bias is None

    def constant(self, site: SiteParameters) -> Array | None:
        """Bu' + b, in the forms fold, bias-last and column; None where there is none."""
        return self.folded_bias if self.column is None else self.column * activated(site.non_linearity)


def locate(found: FoundSite, attach: Attach, norms: Sequence[Norm], norm_style: NormStyle) -> LocatedSite:
    """The values of one site in a grafted graph.

    Args:
        found: the site's linear layer, found by its sketch.
        attach: the placement.
        norms: all norms of the graph.
        norm_style: whether a norm must follow the residual sum.

    Raises:
        CompacterError: E606 if the graph has another structure than the placement demands.
    """
    site = _Site(found, {id(norm.input): norm for norm in norms} if norm_style is NormStyle.POST else None)
    if isinstance(found.linear, DissolvedLinear):
        return site.dissolved(attach)
    h = found.linear.output
    first = first_norm = second = last_norm = None
    normed = h
    if attach.input is Input.NORMED_SUM or attach.skip is not Skip.SUBLAYER_OUTPUT:
        first = site.residual_sum(h)
        normed = first.total
    if first is not None and (attach.input is Input.NORMED_SUM or attach.skip is Skip.NORMED_SUM):
        first_norm = site.norm_behind(first)
        normed = normed if first_norm is None else first_norm.output
    skip = h if attach.skip is Skip.SUBLAYER_OUTPUT else normed
    if first is not None and attach.skip is Skip.RESIDUAL_SUM:
        skip = first.total
    write = site.write(skip)
    late = bias_added_last(write) if found.linear.bias is None and skip is h else None
    output = (late or write).outputs[0]
    if attach.post:
        second = site.residual_sum(output)
        last_norm = site.norm_behind(second)
    around = second or first
    x = normed if attach.input is Input.NORMED_SUM else h
    site.check_readers((h, skip, normed), first, first_norm, write)
    return LocatedSite(
        linear=found.linear,
        folded_bias=_added_constant(other_input(write, skip) if late is None else output),
        bias_is_last=late is not None,
        column=site.column(other_input(write, skip)),
        x=around.residual if around is not None and attach.input is Input.RESIDUAL else x,
        skip=skip,
        output=output,
        sums=tuple(one for one in (first, second) if one is not None),
        norms=tuple(norm for norm in (first_norm, last_norm) if norm is not None),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Site:
    """The steps of `locate`, for one site.

    Args:
        found: the site.
        norm_of: the norm that reads a value, by the value's identity; None on a pre-norm backbone.
    """

    found: FoundSite
    norm_of: Mapping[int, Norm] | None

    def dissolved(self, attach: Attach) -> LocatedSite:
        """Where the adapter is part of the linear layer: x is then the layer's input, and o its output."""
        linear = self.found.linear
        total = self.residual_sum(linear.output) if attach.post else None
        norm = None if total is None else self.norm_behind(total)
        return LocatedSite(
            linear=linear,
            folded_bias=None,
            bias_is_last=False,
            column=None,
            x=linear.input,
            skip=linear.output,
            output=linear.output,
            sums=() if total is None else (total,),
            norms=() if norm is None else (norm,),
        )

    def write(self, skip: ir.Value) -> ir.Node:
        """The Add of the adapter's delta to its skip."""
        adds = [node for node in consumers(skip, "Add") if self._is_delta(other_input(node, skip))]
        return self._only(adds, "sum of an adapter's output", skip)

    def residual_sum(self, value: ir.Value) -> Sum:
        """The Add of the residual stream to a value, which may be brought into its final shape before."""
        reshape = reshape_behind(value, self.found.linear.weight.shape[1])
        value = value if reshape is None else reshape.outputs[0]
        adds = [
            node
            for node in consumers(value, "Add")
            if constant_of(other_input(node, value)) is None and not self._is_delta(other_input(node, value))
        ]
        add = self._only(adds, "residual sum", value)
        residual = other_input(add, value)
        if residual is None:
            raise self._unexpected("no residual sum", value)
        return Sum(total=add.outputs[0], residual=residual, addend=value)

    def norm_behind(self, one: Sum) -> Norm | None:
        """The norm behind a residual sum."""
        if self.norm_of is None:
            return None
        norm = self.norm_of.get(id(one.total))
        if norm is None:
            raise self._unexpected("no layer norm", one.total)
        return norm

    def check_readers(
        self, values: Sequence[ir.Value], first: Sum | None, first_norm: Norm | None, write: ir.Node
    ) -> None:
        """Refuse a value from before the adapter that anything but the adapter reads: it would go past it."""
        allowed = {write}
        if first is not None:
            allowed |= {node for node in consumers(first.addend, "Add") if node.outputs[0] is first.total}
        if first_norm is not None:
            allowed |= set(between(first_norm.input, first_norm.output))
        for value in values:
            strangers = [
                node.op_type
                for node in value.consumers()
                if node not in allowed and not self._is_down(node) and not is_op(node, "Shape") and _is_alive(node)
            ]
            if strangers or value.is_graph_output():
                raise self._unexpected("something else than the adapter reads the value", value, value_got=strangers)

    def _is_delta(self, value: ir.Value | None) -> bool:
        """Whether the value is a product with a [k, d] constant, with a bias or not."""
        node = producer_of(value)
        if node is not None and is_op(node, "Add"):
            products = [operand for operand in node.inputs if constant_of(operand) is None]
            node = products[0].producer() if len(products) == 1 and products[0] is not None else None
        d = self.found.linear.weight.shape[1]
        return any(self._matrix(node, (k, d)) is not None for k in self._widths)

    def _is_down(self, node: ir.Node) -> bool:
        d = self.found.linear.weight.shape[1]
        return any(self._matrix(node, (d, k)) is not None for k in self._widths)

    @property
    def _widths(self) -> tuple[int, int]:
        """Of what is between the projections: the bottleneck, in the form column with one column more."""
        k = self.found.site.bottleneck_size
        return k, k + 1

    def column(self, delta: ir.Value | None) -> Array | None:
        """The last row of the up-projection's matrix, where that has one row more than the bottleneck."""
        matrix = self._matrix(producer_of(delta), (self._widths[1], self.found.linear.weight.shape[1]))
        return None if matrix is None else matrix.exact()[-1].astype(np.float64)

    def _matrix(self, node: ir.Node | None, shape: tuple[int, int]) -> Constant | None:
        """The constant that a MatMul multiplies with, if it has that shape."""
        constant = constant_of(node.inputs[1]) if node is not None and is_op(node, "MatMul") else None
        return constant if constant is not None and constant.view.shape == shape else None

    def _only(self, nodes: Sequence[ir.Node], what: str, value: ir.Value) -> ir.Node:
        if len(nodes) != 1:
            raise self._unexpected(f"no single {what}", value, value_got=[node.op_type for node in value.consumers()])
        return nodes[0]

    def _unexpected(self, what: str, value: ir.Value, *, value_got: object = None) -> CompacterError:
        return CompacterError(
            ErrorCode.E606,
            f"site {self.found.site.id}: {what} at {value.name}",
            value=value_got,
        )


def _is_alive(node: ir.Node) -> bool:
    """Whether an output of the graph depends on the node. A placement can leave a norm behind that nobody reads."""
    seen: set[ir.Node] = set()
    pending = [node]
    while pending:
        current = pending.pop()
        for output in current.outputs:
            if output.is_graph_output():
                return True
            pending += [reader for reader in output.consumers() if reader not in seen]
        seen.add(current)
    return False


def _added_constant(delta: ir.Value | None) -> Array | None:
    """The constant added last in an adapter's delta, or None if there is none."""
    node = producer_of(delta)
    if node is None or not is_op(node, "Add"):
        return None
    constants = [constant for constant in map(constant_of, node.inputs) if constant is not None]
    return constants[0].exact().astype(np.float64) if constants else None
