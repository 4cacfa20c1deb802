"""Small backbones written straight as ONNX graphs, in the spellings exporters use, with adapters that fit them.

Sublayer i of a stack: h = relu(x) W_i + b_i, then x <- N(x + h) (post-norm), or x <- x + h with h computed from N(x)
(pre-norm). Tokens come in through a table and a norm, logits go out through a linear layer on the first token.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compacter_core.adapter import Adapter, Array
from compacter_core.config import AdapterConfig, Attach, Backbone, Head, Override, Projection, Site, SiteModules
from compacter_core.format.sketch import bias_name, sketch_bias, sketch_weight, weight_name
from compacter_core.layout import Part, adapter_layout
from compacter_core.vocabulary import Activation, NormStyle, OverrideKind, ScalingKind, Stack
from tests.exporters.rms_spellings import RmsSpelling, spell

ROWS = 11
LABELS = 3
NEW_LABELS = 5


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """How the backbone is spelt.

    Args:
        dtype: of all tensors.
        opset: of the standard operators.
        sublayers: how many.
        operator_norm: LayerNormalization, or its parts.
        rms: root-mean-square norms instead, and how they are spelt.
        norm_style: post or pre.
        with_bias: whether the linear layers have one.
        bias_first: whether the bias is the first operand of its Add.
        transposed: whether weights are stored [out, in] behind a Transpose.
        merged: whether equal tensors are one initialiser, behind Identity nodes.
        drop_zero_head_bias: whether the head's Gemm has no bias input.
    """

    dtype: Any = np.float32
    opset: int = 17
    sublayers: int = 2
    operator_norm: bool = True
    rms: RmsSpelling | None = None
    norm_style: NormStyle = NormStyle.POST
    with_bias: bool = True
    bias_first: bool = False
    transposed: bool = False
    merged: bool = False
    drop_zero_head_bias: bool = False


@dataclass
class BackboneStack:
    """A backbone graph under construction, and what an adapter has to know about it."""

    options: StackOptions
    hidden: int
    seed: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initialisers: dict[str, Array] = field(default_factory=dict)
    weights: list[Array] = field(default_factory=list)
    biases: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    def save(self, path: Path) -> Path:
        """Build the graph and write it."""
        onnx.save(self.model(), path)
        return path

    def model(self) -> onnx.ModelProto:
        """Build the graph."""
        dtype, d = self._onnx_type, self.hidden
        x = self._op("Gather", [self._tensor("table", self._draw(ROWS, d)), "input_ids"])
        x = self._norm(x, "embeddings.norm")
        for index in range(self.options.sublayers):
            pre = self.options.norm_style is NormStyle.PRE
            source = self._op("Relu", [self._norm(x, f"layer.{index}.norm") if pre else x])
            x = self._op("Add", [self._linear(source, index), x])
            x = x if pre else self._norm(x, f"layer.{index}.norm")
        first = self._op("Gather", [x, self._tensor("zero", np.array(0))], axis=1)
        head = [first, self._tensor("classifier.weight", self._draw(LABELS, d))]
        if not self.options.drop_zero_head_bias:
            head.append(self._tensor("classifier.bias", np.zeros(LABELS, self.options.dtype)))
        self.nodes.append(helper.make_node("Gemm", head, ["logits"], transB=1, name="classifier"))
        graph = helper.make_graph(
            self.nodes,
            "backbone",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
            [helper.make_tensor_value_info("logits", dtype, ["batch", LABELS])],
            [numpy_helper.from_array(array, name) for name, array in self.initialisers.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.options.opset)], ir_version=8)

    @property
    def _onnx_type(self) -> int:
        return int(helper.np_dtype_to_tensor_dtype(np.dtype(self.options.dtype)))

    def _draw(self, *shape: int) -> Array:
        return self.generator.standard_normal(shape).astype(self.options.dtype)

    def _tensor(self, name: str, array: Array) -> str:
        self.initialisers[name] = array
        return name

    def _op(self, op_type: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op_type}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [f"{name}_output"], name=name, **attributes))
        return f"{name}_output"

    def _linear(self, x: str, index: int) -> str:
        weight = self._draw(self.hidden, self.hidden) / np.asarray(np.sqrt(self.hidden), self.options.dtype)
        self.weights.append(weight)
        if self.options.transposed:
            operand = self._op("Transpose", [self._tensor(f"layer.{index}.weight", np.ascontiguousarray(weight.T))])
        else:
            operand = self._tensor(f"layer.{index}.weight", weight)
        product = self._op("MatMul", [x, operand])
        bias = self._draw(self.hidden) if self.options.with_bias else np.zeros(self.hidden, self.options.dtype)
        self.biases.append(bias)
        if not self.options.with_bias:
            return product
        constant = self._tensor(f"layer.{index}.bias", bias)
        return self._op("Add", [constant, product] if self.options.bias_first else [product, constant])

    def _norm(self, x: str, name: str) -> str:
        gain, bias = np.ones(self.hidden, self.options.dtype), np.zeros(self.hidden, self.options.dtype)
        if self.options.rms is not None:
            weight = self._tensor(f"{name}.weight", gain)
            return spell(self._op, self._tensor, x, weight, how=self.options.rms, opset=self.options.opset)
        if self.options.merged:
            gain_name = self._op("Identity", [self._tensor("merged.weight", gain)])
            bias_name_ = self._op("Identity", [self._tensor("merged.bias", bias)])
        else:
            gain_name = self._tensor(f"{name}.weight", gain)
            bias_name_ = self._tensor(f"{name}.bias", bias)
        if self.options.operator_norm:
            return self._op("LayerNormalization", [x, gain_name, bias_name_], epsilon=1e-5)
        return self._spelt_norm(x, gain_name, bias_name_)

    def _spelt_norm(self, x: str, gain: str, bias: str) -> str:
        centred = self._op("Sub", [x, self._mean(x)])
        two = self._tensor("two", np.array(2, self.options.dtype))
        variance = self._mean(self._op("Pow", [centred, two]))
        epsilon = self._tensor("epsilon", np.array(1e-5, self.options.dtype))
        deviation = self._op("Sqrt", [self._op("Add", [variance, epsilon])])
        return self._op("Add", [self._op("Mul", [self._op("Div", [centred, deviation]), gain]), bias])

    def _mean(self, x: str) -> str:
        if self.options.opset >= 18:
            return self._op("ReduceMean", [x, self._tensor("last", np.array([-1]))], keepdims=1)
        return self._op("ReduceMean", [x], axes=[-1], keepdims=1)


def site_id(index: int) -> str:
    """Id of sublayer `index`."""
    return f"encoder.{index}.ffn"


def describe(stack: BackboneStack) -> Backbone:
    """The backbone of a stack, as an adapter's configuration describes it."""
    options = stack.options
    post = options.norm_style is NormStyle.POST
    return Backbone(
        model_type="stack",
        hidden_size=stack.hidden,
        num_layers={Stack.ENCODER: options.sublayers},
        norm_style=options.norm_style,
        modules={
            site_id(index): SiteModules(linear=f"layer.{index}", norm=f"layer.{index}.norm" if post else None)
            for index in range(options.sublayers)
        },
        norms=("embeddings.norm", *(f"layer.{index}.norm" for index in range(options.sublayers))),
    )


def make_adapter(
    stack: BackboneStack,
    *,
    projection: Projection,
    bottleneck: int,
    attach: Attach | None = None,
    non_linearity: Activation = Activation.GELU_NEW,
    bias_down: bool = True,
    bias_up: bool = True,
    scaling: float | ScalingKind = 1.0,
    overrides: tuple[Override, ...] | None = None,
    scale: float = 0.5,
    seed: int = 1,
) -> Adapter:
    """A random adapter for every sublayer of a built stack; norms and head are replaced, the label count is another."""
    backbone = describe(stack)
    if overrides is None:
        overrides = tuple(
            Override(name=f"{norm}.{part}", kind=OverrideKind.NORM)
            for norm in backbone.norms
            for part in (("weight", "bias") if stack.options.rms is None else ("weight",))
        )
    config = AdapterConfig(
        method="test",
        name="tested",
        hidden_size=stack.hidden,
        projection=projection,
        sites=tuple(Site(id=site_id(index), bottleneck_size=bottleneck) for index in range(stack.options.sublayers)),
        non_linearity=non_linearity,
        bias_down=bias_down,
        bias_up=bias_up,
        scaling=scaling,
        attach=Attach() if attach is None else attach,
        backbone=backbone,
        overrides=overrides,
        head=Head(
            task="text-classification",
            layers=("classifier",),
            shapes={"classifier.weight": (NEW_LABELS, stack.hidden), "classifier.bias": (NEW_LABELS,)},
            labels=tuple("abcde"),
        ),
    )
    generator = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...], spread: float) -> Array:
        return (spread * generator.standard_normal(shape)).astype(np.float32)

    tensors = {name: draw(shape, scale) for name, shape in adapter_layout(config).items()}
    for override in overrides:
        tensors[f"{Part.OVERRIDE}.{override.name}"] = 1.0 + draw((stack.hidden,), 0.3)
    tensors |= {f"{Part.HEAD}.{name}": draw(shape, 1.0) for name, shape in _head_shapes(config).items()}
    return Adapter(config=config, tensors=tensors, sketches=_sketches(stack))


def _head_shapes(config: AdapterConfig) -> Mapping[str, tuple[int, ...]]:
    return {} if config.head is None else config.head.shapes


def _sketches(stack: BackboneStack) -> dict[str, Array]:
    sketches: dict[str, Array] = {}
    for index, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        sketches[weight_name(site_id(index))] = sketch_weight(weight)
        if stack.options.with_bias:
            sketches[bias_name(site_id(index))] = sketch_bias(bias)
    return sketches
