"""Toy backbones as ONNX models, in the spellings that exporters use, and with an adapter put in by hand.

Models have no producer and fixed versions, and are serialised deterministically, so that their bytes are the same
everywhere.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import numpy as np

from compacter_core.adapter import Array
from compacter_core.conformance.generate.files_toys import Linear, Norm, Toy
from compacter_core.errors import CompacterError, ErrorCode

INPUT: Final = "hidden"
OUTPUT: Final = "logits"
IR_VERSION: Final = 8

TYPES: Final[Mapping[str, Any]] = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """How a graph is written down; none of it changes what is computed.

    Args:
        dtype: of all tensors.
        opset: of the standard operators.
        transposed: weights are stored [out, in] behind a Transpose.
        gemm: linears are Gemm nodes, and the input is [batch, d].
        bias_first: the bias is the first operand of its Add.
        residual_first: the residual is the first operand of its Add.
        decomposed: norms are written in their parts.
        merged: all norms have one gain and one bias, behind Identity nodes.
        broken: what follows h: "relu", so that there is no residual sum, or "twice", so that there are two.
        output: name of the output.
    """

    dtype: str = "F32"
    opset: int = 17
    transposed: bool = False
    gemm: bool = False
    bias_first: bool = False
    residual_first: bool = False
    decomposed: bool = False
    merged: bool = False
    broken: str = ""
    output: str = OUTPUT


@dataclass(slots=True)
class GraphWriter:
    """Collects nodes and initialisers.

    Args:
        dtype: type of all tensors that are added.
    """

    dtype: str
    nodes: list[Any] = field(default_factory=list)
    initialisers: dict[str, Array] = field(default_factory=dict)

    def constant(self, name: str, values: Any) -> str:
        """Add an initialiser and return its name."""
        self.initialisers[name] = np.array(values, TYPES[self.dtype])
        return name

    def op(self, op_type: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = output or f"{op_type}_{len(self.nodes)}_output"
        self.nodes.append(_onnx().helper.make_node(op_type, list(inputs), [name], name=f"node_of_{name}", **attributes))
        return name

    def digest(self, name: str) -> str:
        """SHA-256 of an initialiser's bytes (ONX-18)."""
        array = self.initialisers[name]
        return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()

    def model(
        self, shape: Sequence[object], labels: int, output: str, metadata: Mapping[str, str], opset: int
    ) -> bytes:
        """The model's bytes."""
        onnx = _onnx()
        helper = onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[self.dtype]))
        graph = helper.make_graph(
            self.nodes,
            "toy",
            [helper.make_tensor_value_info(INPUT, kind, shape)],
            [helper.make_tensor_value_info(output, kind, ["batch", labels])],
            [onnx.numpy_helper.from_array(array, name) for name, array in self.initialisers.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
        model.producer_name = ""
        helper.set_model_props(model, dict(metadata))
        return bytes(model.SerializeToString(deterministic=True))


@dataclass(frozen=True, slots=True)
class PutIn:
    """Constants of an adapter at one site, multiplied out: act(x Wd + bd) Wu + bu with the scaling in Wu and bu."""

    form: str
    Wd: Any
    bd: Any
    Wu: Any
    bu: Any
    activation: str

    def folded(self, b: Any) -> Self:
        """The same with the bias b of the linear moved in (ONX-2)."""
        if b is None:
            return self
        bias = np.array(b, np.float64)
        down = bias @ self.Wd
        return replace(
            self,
            bd=down if self.bd is None else self.bd + down,
            bu=bias if self.bu is None else self.bu + bias,
        )


@dataclass(slots=True)
class ToyWriter:
    """Writes a toy as a graph, perhaps with an adapter.

    Args:
        toy: the backbone.
        spelling: how it is written.
        adapter: name of the adapter, the first part of all names of what is put in.
        sites: what is put in, by site.
        recorded: digests of the initialisers of each site, and of replaced ones under "".
        graph: what has been written so far.
    """

    toy: Toy
    spelling: Spelling
    adapter: str = ""
    sites: Mapping[str, PutIn] = field(default_factory=dict)
    recorded: dict[str, Any] = field(default_factory=dict)
    graph: GraphWriter = field(init=False)

    def __post_init__(self) -> None:
        self.graph = GraphWriter(self.spelling.dtype)

    def write(self, metadata: Mapping[str, str] | None = None) -> bytes:
        """The model's bytes."""
        toy, graph, d = self.toy, self.graph, self.toy.hidden_size
        x = INPUT if toy.first_norm is None else self._norm(INPUT, toy.first_norm, "norm.first")
        for index, layer in enumerate(toy.layers):
            h = self._linear(x, layer, f"layer.{index}", f"encoder.{index}.ffn")
            h = graph.op("Relu", [h]) if self.spelling.broken == "relu" else h
            total = graph.op("Add", [x, h] if self.spelling.residual_first else [h, x])
            if self.spelling.broken == "twice":
                total = graph.op("Add", [total, graph.op("Add", [h, x])])
            x = self._norm(total, toy.norms[index], f"norm.{index}") if toy.norms else total
        if not self.spelling.gemm:
            graph.initialisers["first"] = np.array(0, np.int64)
            x = graph.op("Gather", [x, "first"], axis=1)
        for index, linear in enumerate(toy.head):
            last = index == len(toy.head) - 1
            x = self._gemm(graph.op("Relu", [x]) if index else x, linear, index, self.spelling.output if last else "")
        shape = ["batch", d] if self.spelling.gemm else ["batch", "sequence", d]
        return graph.model(shape, len(toy.head[-1].W[0]), self.spelling.output, metadata or {}, self.spelling.opset)

    def _linear(self, x: str, layer: Linear, name: str, site_id: str) -> str:
        graph, put = self.graph, self.sites.get(site_id)
        if self.spelling.gemm:
            inputs = [x, graph.constant(f"{name}.weight", np.transpose(layer.W))]
            inputs += [] if layer.b is None else [graph.constant(f"{name}.bias", layer.b)]
            return graph.op("Gemm", inputs, transB=1)
        if self.spelling.transposed:
            weight = graph.op("Transpose", [graph.constant(f"{name}.weight", np.transpose(layer.W))], perm=[1, 0])
        else:
            weight = graph.constant(f"{name}.weight", layer.W)
        m = graph.op("MatMul", [x, weight])
        if put is not None and put.form == "fold":
            return self._bottleneck(m, put.folded(layer.b), site_id, m)
        h = m
        if layer.b is not None:
            bias = graph.constant(f"{name}.bias", layer.b)
            h = graph.op("Add", [bias, m] if self.spelling.bias_first else [m, bias])
        return h if put is None else self._bottleneck(h, put, site_id, m)

    def _bottleneck(self, x: str, put: PutIn, site_id: str, product: str) -> str:
        """Nodes for o = x + (act(x Wd + bd) Wu + bu), x being the skip as well."""
        prefix = f"compacter/{self.adapter}/{site_id}"
        inner, bd = self.graph, put.bd
        before = set(inner.initialisers)
        z = inner.op("MatMul", [x, inner.constant(f"{prefix}/down.weight", put.Wd)], f"{prefix}/down")
        if bd is not None:
            z = inner.op("Add", [z, inner.constant(f"{prefix}/down.bias", bd)], f"{prefix}/down/bias")
        a = z if put.activation == "identity" else inner.op("Relu", [z], f"{prefix}/relu")
        v = inner.op("MatMul", [a, inner.constant(f"{prefix}/up.weight", put.Wu)], f"{prefix}/up")
        if put.bu is not None:
            v = inner.op("Add", [v, inner.constant(f"{prefix}/up.bias", put.bu)], f"{prefix}/up/bias")
        output = inner.op("Add", [x, v], f"{prefix}/output")
        self.recorded[site_id] = {
            "form": put.form,
            "product": product,
            "output": output,
            "initialisers": {name: inner.digest(name) for name in inner.initialisers if name not in before},
        }
        return output

    def _gemm(self, x: str, linear: Linear, index: int, output: str) -> str:
        prefix = f"compacter/{self.adapter}/head/head.{index}" if self.adapter else f"head.{index}"
        names = [self.graph.constant(f"{prefix}.weight", np.transpose(linear.W))]
        names += [] if linear.b is None else [self.graph.constant(f"{prefix}.bias", linear.b)]
        if self.adapter:
            self.recorded.setdefault("", {}).update({name: self.graph.digest(name) for name in names})
        return self.graph.op("Gemm", [x, *names], output, transB=1)

    def _norm(self, x: str, norm: Norm, name: str) -> str:
        graph = self.graph
        if self.spelling.merged:
            gain = graph.op("Identity", [graph.constant("merged.weight", norm.gain)])
            bias = graph.op("Identity", [graph.constant("merged.bias", norm.bias)])
        else:
            gain, bias = graph.constant(f"{name}.weight", norm.gain), graph.constant(f"{name}.bias", norm.bias)
        if not self.spelling.decomposed:
            return graph.op("LayerNormalization", [x, gain, bias], axis=-1, epsilon=0.0)
        centred = graph.op("Sub", [x, graph.op("ReduceMean", [x], axes=[-1], keepdims=1)])
        square = graph.op("Pow", [centred, graph.constant("two", 2)])
        variance = graph.op("ReduceMean", [square], axes=[-1], keepdims=1)
        deviation = graph.op("Sqrt", [graph.op("Add", [variance, graph.constant("epsilon", 0)])])
        return graph.op("Add", [graph.op("Mul", [graph.op("Div", [centred, deviation]), gain]), bias])


def _onnx() -> Any:
    try:
        import onnx  # noqa: PLC0415  # an optional dependency
    except ModuleNotFoundError as error:
        raise CompacterError(
            ErrorCode.E004,
            "the cases about ONNX are made with the package onnx",
            remedy='Install it with: pip install "compacter-core[onnx]".',
        ) from error
    return onnx
