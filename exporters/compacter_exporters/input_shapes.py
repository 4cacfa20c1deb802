"""The shapes of a graph's inputs, for a batch and a length: what a run needs before it can draw values."""

import ast
from collections.abc import Callable, Mapping
from typing import Final

import onnx_ir as ir

from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.graph import is_op, width
from compacter_exporters.linears import linear_of

_CACHE_RANK: Final = 4
_OPERATIONS: Final[Mapping[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
}


def input_shape(value: ir.Value, *, batch: int, length: int) -> tuple[int, ...]:
    """The shape of one input.

    The first dimension, where it is symbolic, is the batch; any other symbol is the length, and sums and products of
    symbols, as in `past_sequence_length + sequence_length`, are what they say. What a GroupQueryAttention reads as its
    past is empty: on a CPU it takes several tokens of several rows in no other way.

    Raises:
        CompacterError: E604 for a dimension of another form.
    """
    dims = [] if value.shape is None else list(value.shape)
    head = _head_size(value)
    if head is not None and len(dims) == _CACHE_RANK:
        dims[-2:] = [0, head]
    return tuple(
        dim if isinstance(dim, int) else _size(dim.value, batch if position == 0 else length, value)
        for position, dim in enumerate(dims)
    )


def _head_size(cache: ir.Value) -> int | None:
    """The size of one head, where the value is read as the past of a GroupQueryAttention."""
    for node in cache.consumers():
        query = node.inputs[0] if node.op_type == "GroupQueryAttention" else None
        if query is None:
            continue
        heads = node.attributes["num_heads"].as_int()
        # Queries, keys and values come in one, unless the keys have an input of their own.
        packed = 0 if node.inputs[1] is not None else 2 * node.attributes["kv_num_heads"].as_int()
        size = width(query) or _columns(query.producer())
        return None if size is None else size // (heads + packed)
    return None


def _columns(node: ir.Node | None) -> int | None:
    """The columns of what a linear layer computes, with its bias or without."""
    sources = (
        [value.producer() for value in node.inputs if value is not None] if is_op(node, "Add") and node else [node]
    )
    return next((int(linear.weight.shape[1]) for linear in map(linear_of, sources) if linear is not None), None)


def _size(dimension: str | None, symbol: int, value: ir.Value) -> int:
    """A symbolic dimension with that size for each of its symbols."""
    try:
        return symbol if dimension is None else _evaluate(ast.parse(dimension, mode="eval").body, symbol)
    except (SyntaxError, KeyError, ZeroDivisionError):
        # Names that exporters make up, like "batch.1", are symbols too.
        if dimension is not None and not any(sign in dimension for sign in "+-*/("):
            return symbol
        raise CompacterError(
            ErrorCode.E604,
            "an input of the graph has a dimension that cannot be read",
            value=f"{value.name}: {dimension}",
        ) from None


def _evaluate(node: ast.expr, symbol: int) -> int:
    match node:
        case ast.Name():
            return symbol
        case ast.Constant(value=int(number)):
            return number
        case ast.BinOp(left=left, op=operation, right=right):
            return _OPERATIONS[type(operation)](_evaluate(left, symbol), _evaluate(right, symbol))
        case _:
            raise KeyError(type(node).__name__)
