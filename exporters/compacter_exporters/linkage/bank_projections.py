"""A projection x -> x W + b whose W is another one in each row of the batch, applied factor by factor.

With the input split into n blocks, W of lphm is never multiplied out (FWD-8). In the letters of the reference, a and b
counting blocks, p and j the places within one, i the summands and r the rank:

    u[a, i, r] = sum_p x[a, p] s_i[p, r]
    v[b, i, r] = sum_a u[a, i, r] A_i[a, b]
    y[b, j]    = sum_ir v[b, i, r] t_i[r, j]

The second step is one product with the *mixing* matrix [(a, i, r), (b, i', r')] that is A_i[a, b] where i = i' and
r = r', made once a run. The down-projection, whose result is small, takes the last two steps in one: mixing and t are
multiplied once a run, for all sites together, to the matrix [(a, i, r), (b, j)] that is A_i[a, b] t_i[r, j]. All
tensors have the rows of the batch as their first axis and 1 as their second.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from compacter_core.layout import Side
from compacter_core.linkage.bank import BankLayout
from compacter_core.vocabulary import ProjectionKind
from compacter_exporters.emitter import Emitter
from compacter_exporters.linkage.bank_rows import Rows

INPUT: Final = "input"
"""Name of the node that reads what a projection is applied to."""
_MIXED: Final = f"{Side.DOWN}.mixed"


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """One of the bank's tensors for all sites.

    Args:
        value: [E, count, ...], or [B, count, ...], the entries that the rows picked.
        count: the number of sites, or 1 where they share it.
    """

    value: ir.Value
    count: int


def project(
    rows: Rows, emitter: Emitter, layout: BankLayout, side: Side, *, tensors: Mapping[str, ir.Value], x: ir.Value
) -> ir.Value:
    """The nodes of x W.

    Args:
        rows: the rows' tensors.
        emitter: of the site.
        layout: of the bank.
        side: which projection.
        tensors: the site's own, by their names in the bank or in what `prepare` made of it.
        x: [B, ..., in]

    Returns:
        [B, 1, tokens, out]; from an up-projection of lphm [B, 1, tokens n, out / n], which are the same numbers in the
        same order.
    """
    n_in, _ = layout.sizes(side)
    n, r = layout.projection.phm_dim or 1, layout.projection.phm_rank or 1

    def shaped(value: ir.Value, last: int, name: str) -> ir.Value:
        return emitter.op("Reshape", [value, rows.shape(1, -1, last)], f"{side}/{name}")

    if layout.projection.kind is ProjectionKind.LPHM:
        u = emitter.op("MatMul", [shaped(x, n_in // n, INPUT), tensors[f"{side}.left"]], f"{side}/left")
        u = shaped(u, n * n * r, "summands")
        if side is Side.DOWN:
            return emitter.op("MatMul", [u, tensors[_MIXED]], f"{side}/product")
        v = emitter.op("MatMul", [u, tensors.get(f"{side}.rule") or tensors["rule"]], f"{side}/mixed")
        return emitter.op("MatMul", [shaped(v, n * r, "factors"), tensors[f"{side}.right"]], f"{side}/product")
    x = shaped(x, n_in, INPUT)
    if layout.projection.kind is ProjectionKind.LOW_RANK:
        x = emitter.op("MatMul", [x, tensors[f"{side}.left"]], f"{side}/left")
        return emitter.op("MatMul", [x, tensors[f"{side}.right"]], f"{side}/right")
    return emitter.op("MatMul", [x, tensors[f"{side}.weight"]], f"{side}/product")


def prepare(rows: Rows, layout: BankLayout, gathered: Mapping[str, Stack]) -> dict[str, Stack]:
    """Turn rules into what `project` multiplies with, for all sites at once: mixing matrices, or weights of phm."""
    if not layout.projection.kind.has_rule:
        return dict(gathered)
    made = {name: one for name, one in gathered.items() if not name.endswith("rule")}
    if layout.projection.kind is ProjectionKind.PHM:
        for side in Side:
            A = gathered.get(f"{side}.rule") or gathered["rule"]
            made[f"{side}.weight"] = _multiplied_out(rows, layout, side, A, gathered[f"{side}.weight"])
        return made
    rules = _mixing_of(rows, layout, gathered)
    mixing = rules.pop(f"{Side.DOWN}.rule", None) or rules["rule"]
    made[_MIXED] = _mixed_with(rows, layout, mixing, made.pop(f"{Side.DOWN}.right"))
    return made | rules


def _mixing_of(rows: Rows, layout: BankLayout, gathered: Mapping[str, Stack]) -> dict[str, Stack]:
    """The mixing matrices of lphm, by the names of their rules."""
    return {name: _mixing(rows, layout, one) for name, one in gathered.items() if name.endswith("rule")}


def _mixing(rows: Rows, layout: BankLayout, rule: Stack) -> Stack:
    """[B, R, a, i, 1, b, 1, 1] to [B, R, (a, i, r), (b, i', r')]."""
    n, r = layout.projection.phm_dim or 1, layout.projection.phm_rank or 1
    emitter, A = rows.emitter, rule.value
    identity = np.eye(n * r).reshape(1, n, r, 1, n, r)
    spread = emitter.op(
        "Mul", [A, emitter.constant("identity", identity)], f"{A.name}/spread".removeprefix(f"{emitter.prefix}/")
    )
    size = n * n * r
    mixing = emitter.op(
        "Reshape",
        [spread, rows.integers("mixing", [0, 0, size, size])],
        f"{A.name}/mixing".removeprefix(f"{emitter.prefix}/"),
    )
    return Stack(mixing, rule.count)


def _mixed_with(rows: Rows, layout: BankLayout, mixing: Stack, right: Stack) -> Stack:
    """Those of down-projections multiplied with t.

    [B, R, (a, i, r), (b, i', r')] and [B, S, (i', r'), j] to [B, S, (a, i, r), (b, j)].
    """
    n, r = layout.projection.phm_dim or 1, layout.projection.phm_rank or 1
    _, n_out = layout.sizes(Side.DOWN)
    emitter, size = rows.emitter, n * n * r
    by_block = [mixing.value, rows.integers(f"{_MIXED}/split", [0, 0, size * n, n * r])]
    blocks = emitter.op("Reshape", by_block, f"{_MIXED}/by_block")
    product = emitter.op("MatMul", [blocks, right.value], f"{_MIXED}/product")
    whole = emitter.op("Reshape", [product, rows.integers(f"{_MIXED}/whole", [0, 0, size, n_out])], _MIXED)
    return Stack(whole, max(mixing.count, right.count))


def _multiplied_out(rows: Rows, layout: BankLayout, side: Side, A: Stack, W: Stack) -> Stack:
    """[B, R, (a, b), i] and [B, S, i, (p, j)] to [B, S, (a, p), (b, j)]."""
    n = layout.projection.phm_dim or 1
    n_in, n_out = layout.sizes(side)
    emitter = rows.emitter
    blocks = emitter.op("MatMul", [A.value, W.value], f"{side}/blocks")
    split = [0, 0, n, n, n_in // n, n_out // n]
    apart = emitter.op("Reshape", [blocks, rows.integers(f"{side}/split", split)], f"{side}/apart")
    turned = emitter.op("Transpose", [apart], f"{side}/turned", attributes={"perm": [0, 1, 2, 4, 3, 5]})
    whole = [turned, rows.integers(f"{side}/whole", [0, 0, n_in, n_out])]
    return Stack(emitter.op("Reshape", whole, f"{side}/weight"), max(A.count, W.count))
