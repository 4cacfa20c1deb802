"""The mean of the last hidden states before a head (ONX-50): recognised in a graph, and compared with the reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Array
from compacter_core.config import Head
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.reference.pooling import mean_bound, mean_of_tokens
from compacter_core.vocabulary import Pooling
from compacter_exporters.checks import Check, Numbers
from compacter_exporters.graph import constant_of, is_op

_MASK: Final = "attention_mask"
_TOKENS: Final = 1
"""The axis of tokens in [N, T, d]."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenMean:
    """The nodes of p = sum_t m_t h_t / sum_t m_t.

    Args:
        hidden: h [N, T, d].
        weights: m [N, T, 1].
        mean: p [N, d].
    """

    hidden: ir.Value
    weights: ir.Value
    mean: ir.Value

    @classmethod
    def before(cls, value: ir.Value) -> Self | None:
        """The mean that is `value`, up to casts; None where it is something else."""
        while (node := value.producer()) is not None and is_op(node, "Identity", "Cast", "Dropout"):
            value = _input(node)
        if node is None or not is_op(node, "Div"):
            return None
        total, count = (_summed(operand) for operand in node.inputs)
        product = None if total is None else total.producer()
        if count is None or product is None or not is_op(product, "Mul") or not _is_mask(count):
            return None
        factors = [factor for factor in product.inputs if factor is not None]
        weights = [factor for factor in factors if _is_mask(factor)]
        hidden = [factor for factor in factors if not _is_mask(factor)]
        return cls(hidden[0], weights[0], value) if len(weights) == len(hidden) == 1 else None

    def values(self) -> tuple[ir.Value, ...]:
        """The values to observe."""
        return self.hidden, self.weights, self.mean

    def check(self, run: Mapping[str, Array]) -> Check:
        """Whether the mean is the reference's, within its bound (NUM-19)."""
        hidden, weights, mean = (run[str(value.name)] for value in self.values())
        hidden, mask = hidden.astype(np.float64), weights[..., 0].astype(np.float64)
        numbers = Numbers.of(ir.DataType.from_numpy(mean.dtype))
        bound = mean_bound(
            hidden, mask, storage=numbers.storage, accumulate=numbers.accumulate, input_error=numbers.unseen(hidden)
        )
        return Check.of(mean, mean_of_tokens(hidden, mask), bound)


def find_pooling(first: ir.Value, head: Head) -> TokenMean | None:
    """What the head's configuration says that its first layer reads, `first`; None where it says nothing.

    Raises:
        CompacterError: E604 if the graph has something else there.
    """
    if head.pooling is not Pooling.MEAN:
        return None
    found = TokenMean.before(first)
    if found is None:
        producer = first.producer()
        raise CompacterError(
            ErrorCode.E604,
            "the head reads the mean of the last hidden states, and the graph's does not",
            value=None if producer is None else producer.op_type,
            expected=f"a quotient of two sums over the tokens, weighted with {_MASK}",
            remedy=f"Export the backbone with --pooling {head.pooling}.",
        )
    return found


def _summed(value: ir.Value | None) -> ir.Value | None:
    """What is summed over the tokens to give the value."""
    node = None if value is None else value.producer()
    if node is None or not is_op(node, "ReduceSum"):
        return None
    attribute = node.attributes.get("axes")
    axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if attribute is not None:
        found = list(attribute.as_ints())
    else:
        found = [] if axes is None else [int(axis) for axis in np.ravel(axes.exact())]
    return _input(node) if found == [_TOKENS] else None


def _is_mask(value: ir.Value) -> bool:
    """Whether the value is made of the attention mask alone, whose shape and type may change."""
    while not value.is_graph_input():
        node = value.producer()
        if node is None or not is_op(node, "Identity", "Cast", "Unsqueeze", "Reshape"):
            return False
        value = _input(node)
    return value.name == _MASK


def _input(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    if value is None:
        raise TypeError(f"{node.op_type} without an input")
    return value
