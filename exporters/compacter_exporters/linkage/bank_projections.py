"""A projection x -> x W + b whose W is another one in each row of the batch, applied factor by factor.

With the input split into n blocks, W of lphm is never multiplied out (FWD-8). In the letters of the reference, a and b
counting blocks, p and j the places within one, i the summands and r the rank:

    u[a, i, r] = sum_p x[a, p] s_i[p, r]
    v[b, i, r] = sum_a u[a, i, r] A_i[a, b]
    y[b, j]    = sum_ir v[b, i, r] t_i[r, j]

The second step is one product with the matrix [(a, i, r), (b, i', r')] that is A_i[a, b] where i = i' and r = r', made
once a run. All tensors have the rows of the batch as their first axis and 1 as their second; x is [B, 1, tokens, in].
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from compacter_core.layout import Side
from compacter_core.linkage.bank import BankLayout
from compacter_core.vocabulary import ProjectionKind
from compacter_exporters.emitter import Emitter
from compacter_exporters.linkage.bank_rows import Rows


def project(
    rows: Rows, emitter: Emitter, layout: BankLayout, side: Side, *, tensors: Mapping[str, ir.Value], x: ir.Value
) -> ir.Value:
    """The nodes of x W.

    Args:
        rows: the rows' tensors.
        emitter: of the site.
        layout: of the bank.
        side: which projection.
        tensors: the site's own, by their names in the bank.
        x: of any shape [..., in] that has the batch first.

    Returns:
        [B, 1, tokens, out]
    """
    n_in, n_out = layout.sizes(side)
    n, r = layout.projection.phm_dim or 1, layout.projection.phm_rank or 1

    def shaped(value: ir.Value, last: int, name: str) -> ir.Value:
        return emitter.op("Reshape", [value, rows.shape(last)], f"{side}/{name}")

    if layout.projection.kind is ProjectionKind.LPHM:
        mixing = tensors.get(f"{side}.rule") or tensors["rule"]
        u = emitter.op("MatMul", [shaped(x, n_in // n, "blocks"), tensors[f"{side}.left"]], f"{side}/left")
        v = emitter.op("MatMul", [shaped(u, n * n * r, "summands"), mixing], f"{side}/mixed")
        y = emitter.op("MatMul", [shaped(v, n * r, "factors"), tensors[f"{side}.right"]], f"{side}/right")
        return shaped(y, n_out, "joined")
    x = shaped(x, n_in, "rows")
    if layout.projection.kind is ProjectionKind.LOW_RANK:
        x = emitter.op("MatMul", [x, tensors[f"{side}.left"]], f"{side}/left")
        return emitter.op("MatMul", [x, tensors[f"{side}.right"]], f"{side}/right")
    return emitter.op("MatMul", [x, tensors[f"{side}.weight"]], f"{side}/product")


def prepare(rows: Rows, layout: BankLayout, gathered: dict[str, ir.Value]) -> dict[str, ir.Value]:
    """Turn rules into what `project` multiplies with, for all sites at once: mixing matrices, or weights of phm."""
    if layout.projection.kind is ProjectionKind.LPHM:
        return {
            name: _mixing(rows, layout, value) if name.endswith("rule") else value for name, value in gathered.items()
        }
    if layout.projection.kind is not ProjectionKind.PHM:
        return gathered
    whole = {name: value for name, value in gathered.items() if not name.endswith("rule")}
    for side in Side:
        A = gathered.get(f"{side}.rule") or gathered["rule"]
        whole[f"{side}.weight"] = _multiplied_out(rows, layout, side, A, gathered[f"{side}.weight"])
    return whole


def _mixing(rows: Rows, layout: BankLayout, A: ir.Value) -> ir.Value:
    """[B, R, a, i, 1, b, 1, 1] to [B, R, (a, i, r), (b, i', r')]."""
    n, r = layout.projection.phm_dim or 1, layout.projection.phm_rank or 1
    emitter = rows.emitter
    identity = np.eye(n * r).reshape(1, n, r, 1, n, r)
    spread = emitter.op(
        "Mul", [A, emitter.constant("identity", identity)], f"{A.name}/spread".removeprefix(f"{emitter.prefix}/")
    )
    size = n * n * r
    return emitter.op(
        "Reshape",
        [spread, rows.integers("mixing", [0, 0, size, size])],
        f"{A.name}/mixing".removeprefix(f"{emitter.prefix}/"),
    )


def _multiplied_out(rows: Rows, layout: BankLayout, side: Side, A: ir.Value, W: ir.Value) -> ir.Value:
    """[B, R, (a, b), i] and [B, S, i, (p, j)] to [B, S, (a, p), (b, j)]."""
    n = layout.projection.phm_dim or 1
    n_in, n_out = layout.sizes(side)
    emitter = rows.emitter
    blocks = emitter.op("MatMul", [A, W], f"{side}/blocks")
    split = [0, 0, n, n, n_in // n, n_out // n]
    apart = emitter.op("Reshape", [blocks, rows.integers(f"{side}/split", split)], f"{side}/apart")
    turned = emitter.op("Transpose", [apart], f"{side}/turned", attributes={"perm": [0, 1, 2, 4, 3, 5]})
    return emitter.op("Reshape", [turned, rows.integers(f"{side}/whole", [0, 0, n_in, n_out])], f"{side}/weight")
