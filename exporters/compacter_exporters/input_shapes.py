"""The shapes of a graph's inputs, for a batch and a length: what a run needs before it can draw values."""

import ast
from collections.abc import Callable, Mapping
from typing import Final

import onnx_ir as ir

from compacter_core.errors import CompacterError, ErrorCode

_OPERATIONS: Final[Mapping[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
}


def input_shape(value: ir.Value, *, batch: int, length: int) -> tuple[int, ...]:
    """The shape of one input.

    The first dimension, where it is symbolic, is the batch; any other symbol is the length, and sums and products of
    symbols, as in `past_sequence_length + sequence_length`, are what they say.

    Raises:
        CompacterError: E604 for a dimension of another form.
    """
    dims = [] if value.shape is None else list(value.shape)
    return tuple(
        dim if isinstance(dim, int) else _size(dim.value, batch if position == 0 else length, value)
        for position, dim in enumerate(dims)
    )


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
