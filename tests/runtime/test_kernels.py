"""The kernels for ONNX Runtime: what each operator computes, within the reference's bounds, however it is called."""

import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.adapter import Array, DType, ProjectionParameters, SiteParameters
from compacter_core.reference.adapter import delta, forward
from compacter_core.reference.bounds import delta_bound, forward_bound, layer_norm_bound, worst_ratio
from compacter_core.reference.placement import layer_norm
from compacter_core.vocabulary import Activation, ProjectionKind
from compacter_exporters.functions import DOMAIN, Kind, Signature
from compacter_runtime import kernels

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
F32: dict[str, Any] = {"storage": DType.F32, "accumulate": DType.F32}
EPSILON = 1e-5


@dataclass(frozen=True)
class Case:
    """A call, and the numbers it is given.

    Args:
        signature: of the function.
        tensors: its inputs in their order.
    """

    signature: Signature
    tensors: dict[str, Array]

    @classmethod
    def drawn(
        cls, signature: Signature, shape: tuple[int, ...], k: int, *, scale: float = 1.0, seed: int = 0
    ) -> "Case":
        """Random numbers for x [..., d] and a bottleneck of k."""
        generator, d = np.random.default_rng(seed), shape[-1]
        shapes = {
            "x": shape,
            "r": shape,
            "down_weight": (d, k),
            "down_bias": (k,),
            "up_weight": (k, d),
            "up_bias": (d,),
            "gain": (d,),
            "shift": (d,),
        }
        sizes = {"x": scale, "r": scale, "down_weight": d**-0.5}
        return cls(
            signature,
            {
                name: (sizes.get(name, 1.0) * generator.standard_normal(shapes[name])).astype(np.float32)
                for name in signature.inputs
            },
        )

    @property
    def site(self) -> SiteParameters:
        """The adapter, as the reference takes it."""
        down, up = (
            ProjectionParameters(
                kind=ProjectionKind.DENSE, W=self.tensors[f"{name}_weight"], b=self.tensors.get(f"{name}_bias")
            )
            for name in ("down", "up")
        )
        return SiteParameters(down=down, up=up, non_linearity=self.signature.activation, scaling=1.0)

    def reference(self) -> tuple[Array, Array]:
        """What the function computes, and the bound of an implementation's error."""
        x = self.tensors["x"].astype(np.float64)
        if self.signature.kind is Kind.DELTA:
            return delta(self.site, x), delta_bound(self.site, x, **F32)
        r, u = self.tensors["r"].astype(np.float64), DType.F32.roundoff
        E = forward_bound(self.site, x, x, **F32)
        total = r + forward(self.site, x, x)
        E = (1 + u) * E + u * np.abs(total) + DType.F32.smallest_normal
        if self.signature.kind is Kind.RESIDUAL:
            return total, E
        gain, shift = (self.tensors[name].astype(np.float64) for name in ("gain", "shift"))
        bound = layer_norm_bound(total, gain, shift, EPSILON, input_error=E, **F32)
        return layer_norm(total, gain, shift, EPSILON), bound

    def ratio(self, y: Array) -> float:
        """The largest error over its bound."""
        assert y.dtype == np.float32 and y.shape == self.tensors["x"].shape
        return worst_ratio(y, *self.reference())


def model_of(signature: Signature, *, through: str | None = None) -> bytes:
    """A call, where `through` is given behind a node of that type that makes r: its memory is free for y then."""
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None if name in "xr" else [None] * rank)
        for name, rank in ((name, 2 if name.endswith("_weight") else 1) for name in signature.inputs)
    ]
    names = list(signature.inputs)
    nodes = []
    if through is not None:
        nodes.append(onnx.helper.make_node(through, ["r"], ["made"]))
        names[1] = "made"
    attributes: dict[str, Any] = {"epsilon": EPSILON} if signature.kind is Kind.NORM else {}
    nodes.append(onnx.helper.make_node(signature.name, names, ["y"], domain=DOMAIN, **attributes))
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(DOMAIN, 1)]
    function = ir.to_proto(signature.function(17))
    graph = onnx.helper.make_graph(nodes, "call", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=9)
    return bytes(model.SerializeToString())


def session_of(
    signature: Signature, *, with_kernels: bool = True, threads: int = 1, through: str | None = None
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if with_kernels:
        assert kernels.register(options)
    model = model_of(signature, through=through)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, case: Case) -> Array:
    return np.asarray(session.run(None, case.tensors)[0])


signatures = st.builds(
    Signature,
    st.sampled_from(Kind),
    st.sampled_from(Activation),
    st.booleans(),
    st.booleans(),
    st.just(ir.DataType.FLOAT),
)
shapes = st.tuples(st.integers(0, 3), st.integers(0, 15), st.integers(1, 70)) | st.tuples(st.integers(1, 70))


@pytest.mark.spec("ONX-54", "NUM-7", "NUM-8")
@given(signatures, shapes, st.integers(1, 40), st.sampled_from((1e-3, 1.0, 30.0)), st.integers(0, 2**16))
def test_every_operator_is_within_its_bound(
    signature: Signature, shape: tuple[int, ...], k: int, scale: float, seed: int
) -> None:
    """Tiles, vectors and pairs of vectors that stick out, on any number of axes; and so is the function itself."""
    case = Case.drawn(signature, shape, k, scale=scale, seed=seed)
    assert case.ratio(run(session_of(signature), case)) <= 1
    assert case.ratio(run(session_of(signature, with_kernels=False), case)) <= 1


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("rows", "d", "k"), [(1000, 384, 12), (301, 768, 24), (70, 200, 100), (2, 8192, 257)])
def test_many_rows_on_several_threads(kind: Kind, threads: int, rows: int, d: int, k: int) -> None:
    """And the same bits again, on one thread or several: no sum is over rows."""
    signature = Signature(kind, Activation.GELU_NEW, True, True, ir.DataType.FLOAT)
    case = Case.drawn(signature, (rows, d), k)
    y = run(session_of(signature, threads=threads), case)
    assert case.ratio(y) <= 1
    np.testing.assert_array_equal(y, run(session_of(signature), case))


@pytest.mark.parametrize("kind", [Kind.RESIDUAL, Kind.NORM])
@pytest.mark.parametrize("rows", [1, 7, 400])
def test_y_may_take_the_memory_of_r(kind: Kind, rows: int) -> None:
    signature = Signature(kind, Activation.SILU, True, True, ir.DataType.FLOAT)
    case = Case.drawn(signature, (rows, 72), 5)
    negative = Case(signature, {**case.tensors, "r": -case.tensors["r"]})
    expected = run(session_of(signature), case)
    for threads in (1, 2):
        session = session_of(signature, threads=threads, through="Neg")
        np.testing.assert_array_equal(run(session, negative), expected)


@pytest.mark.parametrize("kind", [Kind.RESIDUAL, Kind.NORM])
def test_an_adapter_of_size_zero_adds_its_bias_alone(kind: Kind) -> None:
    """Bit for bit: what a swappable graph needs to be the backbone where it is given no adapter."""
    signature = Signature(kind, Activation.GELU, True, True, ir.DataType.FLOAT)
    case = Case.drawn(signature, (9, 33), 0)
    x, r, bias = (case.tensors[name] for name in ("x", "r", "up_bias"))
    y = run(session_of(signature), case)
    if kind is Kind.RESIDUAL:
        np.testing.assert_array_equal(y, r + (x + bias))
    else:
        gain, shift = (case.tensors[name].astype(np.float64) for name in ("gain", "shift"))
        total = (r + (x + bias)).astype(np.float64)
        assert (
            worst_ratio(
                y, layer_norm(total, gain, shift, EPSILON), layer_norm_bound(total, gain, shift, EPSILON, **F32)
            )
            <= 1
        )


@pytest.mark.parametrize("activation", Activation)
def test_numbers_that_are_none_stay_in_their_rows(activation: Activation) -> None:
    """NaN and infinities reach the outputs of their rows, and of no others in the tile."""
    signature = Signature(Kind.NORM, activation, True, True, ir.DataType.FLOAT)
    case = Case.drawn(signature, (5, 20), 4)
    session = session_of(signature)
    expected = run(session, case)
    for number in (np.nan, np.inf, -np.inf):
        case.tensors["x"][3, 7] = number
        y = run(session, case)
        assert np.all(np.isnan(y[3]))
        np.testing.assert_array_equal(np.delete(y, 3, axis=0), np.delete(expected, 3, axis=0))


@pytest.mark.parametrize("name", ["r", "down_weight", "down_bias", "up_weight", "up_bias", "gain", "shift"])
def test_tensors_that_do_not_fit_are_refused(name: str) -> None:
    signature = Signature(Kind.NORM, Activation.RELU, True, True, ir.DataType.FLOAT)
    case = Case.drawn(signature, (4, 16), 4)
    case.tensors[name] = np.concatenate([case.tensors[name]] * 2)
    with pytest.raises(Exception, match="do not fit together"):  # ONNX Runtime's exceptions share no other base class
        run(session_of(signature), case)
