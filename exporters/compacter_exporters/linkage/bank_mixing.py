"""What calls of a bank's sites read: the rows' weights, or factors of them, made for all sites at once.

A call takes a projection of lphm or low_rank in the factors of `compacter_core.linkage.factors`, of which left and
right are tensors of the bank, and mix_down and mix_up are made once a run from the rest. Weights of phm are multiplied
out, as they are without calls.
"""

from collections.abc import Mapping
from typing import Final

from compacter_core.layout import Side
from compacter_core.linkage.bank import BankLayout
from compacter_core.vocabulary import ProjectionKind
from compacter_exporters.linkage.bank_projections import Stack, mixed_with, mixing_of, prepare
from compacter_exporters.linkage.bank_rows import Rows

_DOWN_BIAS: Final = f"{Side.DOWN}.bias"


def prepare_calls(rows: Rows, layout: BankLayout, gathered: Mapping[str, Stack]) -> dict[str, Stack]:
    """The inputs of calls, by their names with a dot behind the side; tensors that are no projection's as they are."""
    k = layout.bottleneck
    made = {name: one for name, one in gathered.items() if not name.endswith("rule")}
    if not layout.projection.kind.has_rank:
        made = prepare(rows, layout, gathered)
    made[_DOWN_BIAS] = _shaped(rows, made[_DOWN_BIAS], f"{_DOWN_BIAS}/vectors", [k])
    if not layout.projection.kind.has_rank:
        return made
    n, r = layout.projection.phm_dim or 1, layout.projection.phm_rank or 1
    w = n * r
    if layout.projection.kind is ProjectionKind.LOW_RANK:
        mix_down, mix_up = made.pop(f"{Side.DOWN}.right"), made.pop(f"{Side.UP}.left")
    else:
        mixing = mixing_of(rows, layout, gathered)
        down, up = (mixing.get(f"{side}.rule") or mixing["rule"] for side in Side)
        mix_down = mixed_with(rows, layout, down, made.pop(f"{Side.DOWN}.right"))
        mix_up = _mix_up(rows, layout, up, made.pop(f"{Side.UP}.left"))
    made[f"{Side.DOWN}.mixing"] = _shaped(rows, mix_down, f"{Side.DOWN}.mixing", [n, w, k])
    made[f"{Side.UP}.mixing"] = _shaped(rows, mix_up, f"{Side.UP}.mixing", [k, n, w])
    return made


def _mix_up(rows: Rows, layout: BankLayout, mixing: Stack, s: Stack) -> Stack:
    """[B, S, a, q, (b, i, r)]: s_i[q, r] A_i[a, b], a product of s with the rules spread over columns (a, b, i, r)."""
    n, r = layout.projection.phm_dim or 1, layout.projection.phm_rank or 1
    w, q = n * r, layout.bottleneck // n
    emitter, side = rows.emitter, Side.UP
    blocks = _shaped(rows, mixing, f"{side}/blocks", [n, w, n, w])
    # Rows and columns of A_i[a, b] [i = i'] [r = r'] are interchangeable within blocks.
    turned = emitter.op("Transpose", [blocks.value], f"{side}/turned", attributes={"perm": [0, 1, 3, 2, 4, 5]})
    spread = _shaped(rows, Stack(turned, mixing.count), f"{side}/spread", [w, n * n * w])
    product = Stack(emitter.op("MatMul", [s.value, spread.value], f"{side}/product"), max(mixing.count, s.count))
    by_column = _shaped(rows, product, f"{side}/columns", [q, n, n * w])
    perm = [0, 1, 3, 2, 4]
    return Stack(emitter.op("Transpose", [by_column.value], f"{side}/mixed", attributes={"perm": perm}), product.count)


def _shaped(rows: Rows, stack: Stack, name: str, shape: list[int]) -> Stack:
    """Each site's tensor in another shape."""
    sizes = rows.integers(f"{name}/shape", [0, 0, *shape])
    return Stack(rows.emitter.op("Reshape", [stack.value, sizes], name), stack.count)
