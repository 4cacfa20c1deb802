"""The kernels for ONNX Runtime: what each operator computes, within the reference's bounds, however it is called."""

import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.adapter import Array
from compacter_core.layout import Side
from compacter_core.vocabulary import Activation, ProjectionKind
from compacter_exporters.functions import Kind, Signature
from compacter_exporters.weights import Weights
from tests.runtime.kernel_cases import ENTRIES, EPSILON, SHARED, SITE, Case, Sizes, run, session_of

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
FLOAT = ir.DataType.FLOAT
COMPACTER = Sizes(ProjectionKind.LPHM, n=4, q=3)
OF_BANK = [weights for weights in Weights if weights.are_of_bank]


def takes(weights: Weights, kind: ProjectionKind) -> bool:
    """Whether there are such weights of adapters of a kind."""
    return not weights.are_of_bank or weights in (Weights.of_bank(kind), Weights.BANK_DENSE)


def drawn(signature: Signature, shape: tuple[int, ...], sizes: Sizes) -> Case:
    """A call, for an adapter of another kind where there are no such weights of the one that is given."""
    kinds = [kind for kind in (sizes.kind, *ProjectionKind) if takes(signature.weights, kind)]
    return Case.drawn(signature, shape, replace(sizes, kind=kinds[0]))


def full(
    kind: Kind, weights: Weights = Weights.DENSE, *, has_b: bool = False, act: Activation = Activation.GELU_NEW
) -> Signature:
    return Signature(kind, act, True, True, FLOAT, weights=weights, has_b=has_b)


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    kind, activation, weights = (draw(st.sampled_from(choice)) for choice in (Kind, Activation, Weights))
    has_b = draw(st.booleans())
    has_bd, has_bu = (has_b or draw(st.booleans()) for _ in range(2))
    return Signature(kind, activation, has_bd, has_bu, FLOAT, weights=weights, has_b=has_b)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Tiles, vectors and blocks that stick out, on any number of axes."""
    signature = draw(signatures())
    kind = draw(st.sampled_from([kind for kind in ProjectionKind if takes(signature.weights, kind)]))
    n = draw(st.integers(1, 5)) if kind.has_rule else 1
    sizes = Sizes(kind, n, draw(st.integers(1, -(-40 // n))), draw(st.integers(1, 3)))
    d = n * draw(st.integers(1, -(-70 // n)))
    least = 1 if signature.weights.are_of_bank else 0  # no rows, no adapters
    shapes = st.tuples(st.integers(least, 3), st.integers(0, 15))
    shape = draw(shapes if signature.weights.are_of_bank else shapes | st.just(()) | st.tuples(st.integers(0, 30)))
    scale = draw(st.sampled_from((1e-3, 1.0, 30.0)))
    return Case.drawn(signature, (*shape, d), sizes, scale=scale, seed=draw(st.integers(0, 2**16)))


@pytest.mark.spec("ONX-54", "NUM-7", "NUM-8")
@given(cases())
def test_every_operator_is_within_its_bound(case: Case) -> None:
    """And so is the function itself."""
    assert case.ratio(run(session_of(case.signature), case)) <= 1
    assert case.ratio(run(session_of(case.signature, with_kernels=False), case)) <= 1


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("weights", Weights)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((4, 250, 384), COMPACTER),
        ((7, 43, 768), Sizes(ProjectionKind.LPHM, n=4, q=6, r=2)),
        ((2, 35, 240), Sizes(ProjectionKind.LPHM, n=12, q=8, r=2)),
        ((2, 1, 8192), Sizes(ProjectionKind.LOW_RANK, q=257, r=5)),
    ],
)
def test_many_rows_on_several_threads(
    kind: Kind, weights: Weights, threads: int, shape: tuple[int, ...], sizes: Sizes
) -> None:
    """And the same bits again, on one thread or several: no sum is over rows."""
    case = drawn(full(kind, weights), shape, sizes)
    y = run(session_of(case.signature, threads=threads), case)
    assert case.ratio(y) <= 1
    np.testing.assert_array_equal(y, run(session_of(case.signature), case))


@pytest.mark.parametrize("kind", [Kind.RESIDUAL, Kind.NORM])
@pytest.mark.parametrize("weights", Weights)
@pytest.mark.parametrize("rows", [1, 7, 400])
def test_y_may_take_the_memory_of_r(kind: Kind, weights: Weights, rows: int) -> None:
    """Also where the last blocks are fewer than those of a tile, which must not be written twice."""
    case = drawn(full(kind, weights), (1, rows, 72), Sizes(ProjectionKind.LPHM, n=3, q=4))
    negative = replace(case, tensors={**case.tensors, "r": -case.tensors["r"]})
    expected = run(session_of(case.signature), case)
    for threads in (1, 2):
        session = session_of(case.signature, threads=threads, within=(1, rows, 72))
        np.testing.assert_array_equal(-run(session, negative), expected)


@pytest.mark.spec("LNK-2")
@pytest.mark.parametrize("kind", [Kind.RESIDUAL, Kind.NORM])
@pytest.mark.parametrize("weights", [Weights.DENSE, Weights.FACTORS, Weights.FACTORS_OF_SITES])
@pytest.mark.parametrize("rows", [9, 700])
def test_an_adapter_of_size_zero_adds_its_biases_alone(kind: Kind, weights: Weights, rows: int) -> None:
    """Bit for bit, norms included: what a swappable graph needs to be the backbone where it is given no adapter."""
    case = drawn(full(kind, weights, has_b=True), (rows, 36), Sizes(q=0))
    x, r, bias, b = map(case.of_site, ("x", "r", "up_bias", "bias"))
    y = run(session_of(case.signature, threads=2), case)
    total = r + (x + (b + bias))
    if kind is Kind.NORM:
        total = normed(total, case.of_site("gain"), case.of_site("shift"))
    np.testing.assert_array_equal(y, total)


def normed(x: Array, gain: Array, shift: Array) -> Array:
    """As ONNX Runtime norms it."""
    names = ["x", "gain", "shift"]
    node = onnx.helper.make_node("LayerNormalization", names, ["y"], epsilon=EPSILON)
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([node], "norm", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x, "gain": gain, "shift": shift})[0])


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("weights", [Weights.DENSE, Weights.FACTORS])
def test_numbers_that_are_none_stay_in_their_rows(activation: Activation, weights: Weights) -> None:
    """NaN and infinities reach the outputs of their rows, and of no others in the tile."""
    case = drawn(full(Kind.NORM, weights, act=activation), (5, 20), COMPACTER)
    session = session_of(case.signature)
    expected = run(session, case)
    for number in (np.nan, np.inf, -np.inf):
        case.tensors["x"][3, 7] = number
        y = run(session, case)
        assert np.all(np.isnan(y[3]))
        np.testing.assert_array_equal(np.delete(y, 3, axis=0), np.delete(expected, 3, axis=0))


@pytest.mark.spec("LNK-11")
@pytest.mark.parametrize("weights", OF_BANK)
def test_rows_may_share_vectors_or_have_their_own(weights: Weights) -> None:
    case = drawn(full(Kind.NORM, weights), (3, 8, 24), COMPACTER)
    session = session_of(case.signature)
    own = {
        name: np.stack([case.tensors[name][np.newaxis] * (1 + row) for row in range(3)]) for name in ("gain", "shift")
    }
    got = run(session, replace(case, tensors={**case.tensors, **own}))
    for row in range(3):
        shared = {name: vectors[row, 0] for name, vectors in own.items()}
        expected = run(session, replace(case, tensors={**case.tensors, **shared}))
        np.testing.assert_array_equal(got[row], expected[row])


@pytest.mark.parametrize("weights", Weights)
@pytest.mark.parametrize("axis", [0, -1])
def test_tensors_that_do_not_fit_are_refused(weights: Weights, axis: int) -> None:
    signature = full(Kind.NORM, weights, has_b=True, act=Activation.RELU)
    for name in signature.inputs[1:]:
        case = drawn(signature, (2, 4, 16), COMPACTER)
        if axis == 0 and name == "down_left" and weights.are_by_site:
            continue  # says how many sites there are
        case.tensors[name] = np.concatenate([case.tensors[name]] * 2, axis)
        # ONNX Runtime's exceptions share no other base class.
        with pytest.raises(Exception, match="do not fit together"):
            run(session_of(signature), case)


@pytest.mark.parametrize("weights", [weights for weights in Weights if weights.have_sites])
@pytest.mark.parametrize("count", [0, SITE])
def test_a_site_that_is_not_there_is_refused(weights: Weights, count: int) -> None:
    case = drawn(full(Kind.NORM, weights, has_b=True), (2, 4, 16), COMPACTER)
    shared = [*SHARED, "gain", "shift"] if weights.are_of_bank else SHARED
    some = (slice(None), slice(count)) if weights.are_of_bank else slice(count)
    fewer = {name: array if name in shared else array[some] for name, array in case.tensors.items()}
    # ONNX Runtime's exceptions share no other base class.
    with pytest.raises(Exception, match="do not fit together"):
        run(session_of(case.signature), replace(case, tensors=fewer))


@pytest.mark.spec("ONX-55")
@pytest.mark.parametrize("weights", OF_BANK)
def test_sites_may_share_tensors_of_a_bank(weights: Weights) -> None:
    """With and without kernels."""
    case = drawn(full(Kind.NORM, weights, has_b=True), (3, 8, 24), COMPACTER)
    names = [name for side in Side for name in weights.inputs(side)]
    shared = {name: case.tensors[name][:, SITE : SITE + 1] for name in names}
    for with_kernels in (True, False):
        session = session_of(case.signature, with_kernels=with_kernels)
        expected = run(session, case)
        got = run(session, replace(case, tensors={**case.tensors, **shared}))
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("weights", OF_BANK)
@pytest.mark.parametrize("entry", [-1, ENTRIES])
def test_an_entry_that_is_not_there_is_refused(weights: Weights, entry: int) -> None:
    case = drawn(full(Kind.NORM, weights, has_b=True), (3, 4, 16), COMPACTER)
    for row in range(3):
        entries = np.array([entry if other == row else 0 for other in range(3)])
        # ONNX Runtime's exceptions share no other base class.
        with pytest.raises(Exception, match=rf"row {row} has the adapter_id {entry - 1}, .* to {ENTRIES - 2}"):
            run(session_of(case.signature), replace(case, tensors={**case.tensors, "entry": entries}))


@pytest.mark.parametrize("weights", OF_BANK)
def test_numbers_without_rows_are_refused_by_a_bank(weights: Weights) -> None:
    case = drawn(full(Kind.DELTA, weights), (16, 1, 16), COMPACTER)
    flat = {"x": case.tensors["x"][:, 0, 0].copy()}
    with pytest.raises(Exception, match="do not fit together"):  # ONNX Runtime's exceptions share no other base class
        run(session_of(case.signature), replace(case, tensors={**case.tensors, **flat}))


@pytest.mark.parametrize("weights", OF_BANK)
def test_a_batch_may_have_no_rows(weights: Weights) -> None:
    case = drawn(full(Kind.NORM, weights, has_b=True), (2, 4, 16), COMPACTER)
    none = {name: case.tensors[name][:0] for name in ("x", "r", "entry")}
    assert session_of(case.signature).run(None, {**case.tensors, **none})[0].shape == (0, 4, 16)


@pytest.mark.parametrize("weights", [Weights.BANK_PHM, Weights.BANK_LPHM])
def test_a_rule_without_numbers_is_refused(weights: Weights) -> None:
    case = drawn(full(Kind.NORM, weights, has_b=True), (3, 4, 16), COMPACTER)
    axes = case.tensors["down_rule"].ndim - 2
    none = dict.fromkeys(("down_rule", "up_rule"), np.zeros((ENTRIES, 1, *[0] * axes), np.float32))
    with pytest.raises(Exception, match="do not fit together"):  # ONNX Runtime's exceptions share no other base class
        run(session_of(case.signature), replace(case, tensors={**case.tensors, **none}))


@pytest.mark.parametrize("side", Side)
def test_columns_that_are_no_multiple_of_the_summands_are_refused(side: Side) -> None:
    """Five for n = 4."""
    case = drawn(full(Kind.NORM, Weights.BANK_LPHM, has_b=True), (3, 4, 16), COMPACTER)
    left, right = (case.tensors[f"{side}_{name}"] for name in ("left", "right"))
    odd = {f"{side}_left": left[..., [0, 1, 2, 3, 0]], f"{side}_right": right[..., [0, 1, 2, 3, 0], :]}
    with pytest.raises(Exception, match="do not fit together"):  # ONNX Runtime's exceptions share no other base class
        run(session_of(case.signature), replace(case, tensors={**case.tensors, **odd}))


@pytest.mark.parametrize("weights", [Weights.FACTORS, Weights.BANK_PHM, Weights.BANK_LPHM])
def test_numbers_that_no_block_has_are_refused(weights: Weights) -> None:
    """Four blocks of four numbers are not 17."""
    signature = full(Kind.NORM, weights, has_b=True)
    blocks, whole = (drawn(signature, (4, 2, d), COMPACTER) for d in (16, 17 * 4))
    for name in ("x", "r", "up_bias", "bias", "gain", "shift"):
        blocks.tensors[name] = whole.tensors[name][..., :17].copy()
    with pytest.raises(Exception, match="do not fit together"):  # ONNX Runtime's exceptions share no other base class
        run(session_of(signature), blocks)
