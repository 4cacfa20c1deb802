"""The random inputs that `verify` draws: shapes that belong together, valid tokens, and masks."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.input_shapes import input_shape
from compacter_exporters.probe import random_inputs


def value(*dims: int | str | None, dtype: ir.DataType = ir.DataType.INT64, name: str = "input") -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(dtype))


@given(batch=st.integers(1, 9), length=st.integers(1, 9))
def test_symbols_are_the_batch_or_the_length_and_expressions_are_evaluated(batch: int, length: int) -> None:
    dims = ("b", 3, "past_sequence", "past_sequence + sequence", "2*s - 1", "sequence//2", None, "batch.1")
    expected = (batch, 3, length, 2 * length, 2 * length - 1, length // 2, length, length)
    assert input_shape(value(*dims), batch=batch, length=length) == expected


@pytest.mark.parametrize("dimension", ["f(x)", "a**b", "a + ", "a//0"])
def test_another_expression_is_e604(dimension: str) -> None:
    with pytest.raises(CompacterError) as caught:
        input_shape(value("batch", dimension), batch=2, length=3)
    assert caught.value.code is ErrorCode.E604


def test_tokens_are_drawn_from_their_table_also_behind_another_shape() -> None:
    tokens, mask = value("batch", "s", name="tokens"), value("batch", "s", name="mask")
    past = value("batch", 2, "past", 4, dtype=ir.DataType.FLOAT, name="past")
    table = ir.val("table", const_value=ir.tensor(np.zeros((7, 3), np.float32), name="table"))
    shape = ir.val("shape", const_value=ir.tensor(np.array([-1]), name="shape"))
    flat = ir.node("Reshape", [tokens, shape])
    rows = ir.node("Gather", [table, flat.outputs[0]])
    graph = ir.Graph(
        [tokens, mask, past], rows.outputs, nodes=[flat, rows], initializers=[table, shape], opset_imports={"": 18}
    )
    drawn = random_inputs(graph, np.random.default_rng(0), batch=50, length=6)
    assert set(np.unique(drawn["tokens"])) == set(range(7))
    assert set(np.unique(drawn["mask"])) == {0, 1}
    assert (drawn["mask"][:, 0] == 1).all()
    assert drawn["past"].shape == (50, 2, 6, 4)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_the_past_of_grouped_queries_is_empty_and_has_heads_as_the_queries(packed: bool, biased: bool) -> None:
    """Four heads of queries and two of keys and values, 16 wide."""
    x, past = value("batch", "s", 8, name="x"), value("batch", 2, "past", "dim", name="past")
    weight = ir.val("weight", const_value=ir.tensor(np.zeros((8, 128 if packed else 64), np.float32), name="weight"))
    bias = ir.val("bias", const_value=ir.tensor(np.zeros(128 if packed else 64, np.float32), name="bias"))
    product = ir.node("MatMul", [x, weight])
    total = ir.node("Add", [product.outputs[0], bias]) if biased else product
    keys = [None, None] if packed else [x, x]
    heads = {"num_heads": 4, "kv_num_heads": 2}
    query = ir.node("GroupQueryAttention", [*total.outputs, *keys, past], heads, domain="com.microsoft")
    nodes = [product, total, query] if biased else [product, query]
    ir.Graph([x, past], query.outputs, nodes=nodes, initializers=[weight, bias], opset_imports={"": 18})
    assert input_shape(past, batch=3, length=5) == (3, 2, 0, 16)
