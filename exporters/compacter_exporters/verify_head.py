"""Verification of the head: the linear layers before the output consume the adapter's tensors and compute with them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from compacter_core.adapter import Adapter, Array
from compacter_core.errors import CompacterError
from compacter_core.layout import Part
from compacter_core.vocabulary import Pooling
from compacter_exporters.checks import Check, Numbers, check_linear, failed
from compacter_exporters.graph import numpy_type
from compacter_exporters.heads import HeadLayer, check_head_input, head_layers
from compacter_exporters.pooling import TokenMean


@dataclass(frozen=True, slots=True, eq=False)
class HeadVerifier:
    """The head of a grafted graph.

    Args:
        adapter: the adapter.
        layers: its head's layers in the graph.
        mean: what they read, where it is a mean of hidden states.
        problem: why they are not there.
    """

    adapter: Adapter
    layers: tuple[HeadLayer, ...]
    mean: TokenMean | None = None
    problem: str | None = None

    @classmethod
    def of(cls, graph: ir.Graph, adapter: Adapter) -> "HeadVerifier":
        """Find the head's layers."""
        if adapter.config.head is None:
            return cls(adapter, ())
        try:
            layers = tuple(head_layers(graph, adapter.config.head))
            return cls(adapter, layers, check_head_input(adapter, layers))
        except CompacterError as error:
            return cls(adapter, (), problem=str(error))

    def values(self) -> list[ir.Value]:
        """The values to observe."""
        mean = () if self.mean is None else self.mean.values()
        return [*mean, *(value for layer in self.layers for value in (layer.linear.input, layer.linear.output))]

    def checks(self, run: Mapping[str, Array]) -> dict[str, Check]:
        """The checks of every layer."""
        if self.problem is not None:
            return {"all": Check(problem=self.problem)}
        pooling = {} if self.mean is None else {Pooling.MEAN.value: self.mean.check(run)}
        return pooling | {layer.name: self._check(layer, run) for layer in self.layers}

    def _check(self, layer: HeadLayer, run: Mapping[str, Array]) -> Check:
        tensors = self.adapter.part(Part.HEAD)
        linear = layer.linear
        dtype = numpy_type(linear.dtype)
        weight = tensors[f"{layer.name}.weight"].T.astype(dtype)
        stored = tensors.get(f"{layer.name}.bias")
        bias = np.zeros(weight.shape[1], dtype) if stored is None else stored.astype(dtype)
        x, output = run[str(linear.input.name)], run[str(linear.output.name)]
        check = check_linear(x, weight, bias, output, Numbers.of(linear.dtype))
        if linear.quantised is not None or not np.array_equal(linear.values(), weight):
            return failed(check, "the weight is not the adapter's")
        return check if np.array_equal(linear.bias_or_zero, bias) else failed(check, "the bias is not the adapter's")
