"""How functions of adapters are given the weights of projections, and what they multiply them out with (ONX-55).

Dense weights are an input each, factors (`compacter_core.linkage.factors`) two. A bank's tensors are given as they are,
[E, S, ...] of E entries and S sites or [E, 1, ...] (`compacter_core.linkage.bank`), and `entry` [B] with them, which
says whose a row of the batch has.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.layout import Side
from compacter_core.vocabulary import ProjectionKind
from compacter_exporters.emitter import Emitter

_OF_BANK: Final = "bank_"


class Weights(StrEnum):
    """How a function takes the weights of the projections."""

    DENSE = ""
    FACTORS = "factors_"
    FACTORS_OF_SITES = "factors_sites_"
    BANK_DENSE = "bank_dense_"
    BANK_LOW_RANK = "bank_low_rank_"
    BANK_PHM = "bank_phm_"
    BANK_LPHM = "bank_lphm_"

    @classmethod
    def of_bank(cls, kind: ProjectionKind) -> "Weights":
        """A bank's, of one kind."""
        return cls(f"{_OF_BANK}{kind.value}_")

    @property
    def are_of_bank(self) -> bool:
        """Whether each row of the batch has those of an entry."""
        return self.startswith(_OF_BANK)

    @property
    def are_by_site(self) -> bool:
        """Whether those of all sites are given together, one for all rows."""
        return self is Weights.FACTORS_OF_SITES

    @property
    def have_sites(self) -> bool:
        """Whether a call says which site's it takes."""
        return self.are_of_bank or self.are_by_site

    def inputs(self, side: Side) -> tuple[str, ...]:
        """The inputs of one projection."""
        match self:
            case Weights.DENSE | Weights.BANK_DENSE:
                names: tuple[str, ...] = ("weight",)
            case Weights.FACTORS | Weights.FACTORS_OF_SITES:
                names = ("left", "mixing") if side is Side.DOWN else ("mixing", "right")
            case Weights.BANK_LOW_RANK:
                names = ("left", "right")
            case Weights.BANK_PHM:
                names = ("rule", "weight")
            case Weights.BANK_LPHM:
                names = ("rule", "left", "right")
        return tuple(f"{side.value}_{name}" for name in names)


class Body(Emitter):
    """Collects the nodes of a function, where constants are nodes."""

    def constant(self, name: str, values: Array) -> ir.Value:
        """A Constant node."""
        tensor = ir.Tensor(values.astype(self.dtype.numpy()), self.dtype, name=name)
        return self.op("Constant", [], name, attributes={"value": tensor})

    def integers(self) -> "Body":
        """What emits integers, among the same nodes."""
        return Body(self.graph, self.prefix, ir.DataType.INT64, self.labels, nodes=self.nodes)

    def size(self, value: ir.Value, axis: int, name: str) -> ir.Value:
        """A size of a value, [1]."""
        integers = self.integers()
        shape = integers.op("Shape", [value], f"{name}/shape")
        return integers.op("Gather", [shape, integers.constant(f"{name}/axis", np.array([axis]))], name)

    def reshaped(self, value: ir.Value, *shape: int | ir.Value, name: str) -> ir.Value:
        """A value in another shape, as Reshape takes it; sizes are numbers or [1]."""
        integers = self.integers()
        sizes = [
            integers.constant(f"{name}/{axis}", np.array([size])) if isinstance(size, int) else size
            for axis, size in enumerate(shape)
        ]
        return self.op("Reshape", [value, integers.op("Concat", sizes, f"{name}/sizes", attributes={"axis": 0})], name)


def of_site(emitter: Body, weights: Weights, given: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
    """The inputs of a function, with those of several sites as the call's site has them.

    Returns:
        A bank's tensors with the rows of the batch as their first axis, [B, ...], and projections with a second of 1;
        others without an axis of sites.
    """
    integers = emitter.integers()
    site = integers.op("Constant", [], "site")
    emitter.nodes[-1].attributes.add(ir.RefAttr("value_int", "site", ir.AttributeType.INT))
    shared, axis = ["x", "r", "entry", "bias"], 0
    if weights.are_of_bank:
        shared, axis = [*shared, "gain", "shift"], 1
    projections = {name for side in Side for name in weights.inputs(side)}
    taken = dict(given)
    for name in (name for name in given if name not in shared):
        value, index = given[name], site
        if weights.are_of_bank:
            value = emitter.op("Gather", [value, given["entry"]], f"{name}/of_rows", attributes={"axis": 0})
            if name in projections:  # sites may share them
                count = emitter.size(value, 1, f"{name}/sites")
                index = integers.op("Mod", [site, count], f"{name}/site")
        taken[name] = emitter.op("Gather", [value, index], f"{name}/of_site", attributes={"axis": axis})
    return taken


def multiplied_out(emitter: Body, weights: Weights, side: Side, given: Mapping[str, ir.Value]) -> ir.Value:
    """W [in, out] of a projection, or [B, in, out] of rows, from the inputs of a function as `of_site` has them."""
    tensors = {name.removeprefix(f"{side.value}_"): given[name] for name in weights.inputs(side)}
    if weights is Weights.DENSE:
        return tensors["weight"]
    if not weights.are_of_bank:
        blocks = emitter.op("MatMul", list(tensors.values()), f"{side}/blocks")
        axis = 2 if side is Side.DOWN else 1  # Reshape would need to know k, which may be 0
        return emitter.op("Flatten", [blocks], f"{side}/weight", attributes={"axis": axis})
    d = emitter.size(given["x"], -1, f"{side}/d")
    match weights:
        case Weights.BANK_LOW_RANK:
            W = emitter.op("MatMul", [tensors["left"], tensors["right"]], f"{side}/product")
        case Weights.BANK_PHM:
            W = _sum_of_products(emitter, side, d, A=tensors["rule"], W=tensors["weight"])
        case Weights.BANK_LPHM:
            W = _sum_of_thin_products(emitter, side, A=tensors["rule"], s=tensors["left"], t=tensors["right"])
        case _:
            W = tensors["weight"]
    shape = (0, d, -1) if side is Side.DOWN else (0, -1, d)
    return emitter.reshaped(W, *shape, name=f"{side}/weight")


def _sum_of_products(emitter: Body, side: Side, d: ir.Value, *, A: ir.Value, W: ir.Value) -> ir.Value:
    """sum_i A_i[a, b] W_i[p, j] as [B, a, p, b, j], of [B, 1, (a, b), i] and [B, 1, i, (p, j)]."""
    integers, n = emitter.integers(), emitter.size(A, 3, f"{side}/n")
    m = integers.op("Div", [d, n], f"{side}/m")
    blocks = emitter.op("MatMul", [A, W], f"{side}/blocks")
    apart = emitter.reshaped(
        blocks, *((0, n, n, m, -1) if side is Side.DOWN else (0, n, n, -1, m)), name=f"{side}/apart"
    )
    return emitter.op("Transpose", [apart], f"{side}/turned", attributes={"perm": [0, 1, 3, 2, 4]})


def _sum_of_thin_products(emitter: Body, side: Side, *, A: ir.Value, s: ir.Value, t: ir.Value) -> ir.Value:
    """sum_ir s[p, (i, r)] A_i[a, b] t[(i, r), j] as [B, a, p, (b, j)].

    Of [B, 1, p, (i, r)], [B, 1, a, i, 1, b, 1, 1], and [B, 1, (i, r), j].
    """
    n, w, j = (emitter.size(*of, f"{side}/{name}") for name, of in {"n": (A, 2), "w": (t, 2), "j": (t, 3)}.items())
    spread = emitter.reshaped(t, 0, 1, 1, n, -1, 1, 1, j, name=f"{side}/spread")
    product = emitter.op("Mul", [A, spread], f"{side}/mixed")
    mixing = emitter.reshaped(product, 0, n, w, -1, name=f"{side}/mixing")
    return emitter.op("MatMul", [s, mixing], f"{side}/blocks")
