"""The exporter's graphs as implementations: in ONNX Runtime, and in the ONNX project's own evaluator.

Neither claims F in F64, because of gelu alone: ONNX Runtime's CPU provider has no Erf in F64, and that of
`onnx.reference` returns F32. The other activations are right in F64 too. ONNX Runtime's CPU provider for x86 computes
F16 in F32, and has no kernels for BF16; NumPy sums products of F16 in F32, and `onnx.reference` those of BF16.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx.reference import ReferenceEvaluator

from compacter_core.adapter import Array, DType
from compacter_core.conformance.implementation import Answer, Capabilities, Done, Request
from compacter_core.conformance.implementations import arguments
from compacter_core.conformance.implementations.answering import (
    WIDE_SUMS,
    Composed,
    Handler,
    Question,
    chosen,
    own_version,
)
from compacter_core.conformance.implementations.site_graph import SiteGraph, forward_graph, sublayer_graph
from compacter_core.conformance.words import ConformanceClass, Op
from compacter_exporters.graft import graft
from compacter_exporters.metadata import extract

_TYPES: Final[Mapping[DType, ir.DataType]] = {
    DType.F64: ir.DataType.DOUBLE,
    DType.F32: ir.DataType.FLOAT,
    DType.F16: ir.DataType.FLOAT16,
    DType.BF16: ir.DataType.BFLOAT16,
}

DEFAULT_OPSET: Final = 20
"""What PyTorch's exporter declares unless told otherwise. From this one on GELU is one operator."""


class Evaluate(Protocol):
    """Runs a model: outputs in the order of their names."""

    def __call__(self, model: onnx.ModelProto, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs."""


def onnxruntime_graphs(opset: int = DEFAULT_OPSET) -> Composed:
    """Classes F, P and O on ONNX Runtime's CPU provider."""
    return Composed(
        Capabilities(
            name="compacter-core ONNX graphs in ONNX Runtime",
            version=f"{own_version()}, ONNX Runtime {onnxruntime.__version__}",
            claims={
                ConformanceClass.FORWARD: (DType.F32, DType.F16),
                ConformanceClass.PLACEMENT: (DType.F64, DType.F32, DType.F16),
                ConformanceClass.ONNX: (),
            },
            accumulate={dtype: sums for dtype, sums in WIDE_SUMS.items() if dtype is not DType.BF16},
        ),
        {**_numeric_handlers(_run_onnxruntime, opset), Op.EXTRACT: _extract, Op.GRAFT: _graft},
    )


def onnx_reference_graphs(opset: int = DEFAULT_OPSET) -> Composed:
    """Classes F and P in `onnx.reference`, which evaluates operator by operator in NumPy."""
    return Composed(
        Capabilities(
            name="compacter-core ONNX graphs in onnx.reference",
            version=f"{own_version()}, ONNX {onnx.__version__}",
            claims={
                ConformanceClass.FORWARD: (DType.F32, DType.F16, DType.BF16),
                ConformanceClass.PLACEMENT: tuple(_TYPES),
            },
            accumulate=WIDE_SUMS,
        ),
        _numeric_handlers(_run_reference, opset),
    )


def _numeric_handlers(evaluate: Evaluate, opset: int) -> dict[Op, Handler]:
    def forward(request: Request) -> Answer:
        question = Question.of(request)
        shape, dtype = question.inputs["x"].shape, question.dtype
        graph = forward_graph(question.adapter.site(arguments.site(request)), shape, _TYPES[dtype], opset)
        feeds = {name: question.inputs[name] for name in ("x", "skip")}
        return question.reply(request, chosen(request, _outputs(evaluate, graph, feeds, dtype)))

    def sublayer(request: Request) -> Answer:
        question = Question.of(request)
        h, dtype = question.inputs["h"], question.dtype
        bias = _exact_bias(h)
        graph = sublayer_graph(
            question.adapter, arguments.site(request), bias, shape=h.shape, dtype=_TYPES[dtype], opset=opset
        )
        feeds = {**{name: question.inputs[name] for name in ("r", "gain", "offset")}, "a": h - bias}
        return question.reply(request, _outputs(evaluate, graph, feeds, dtype))

    return {Op.FORWARD: forward, Op.SUBLAYER: sublayer}


def _exact_bias(h: Array) -> Array:
    """A bias of the linear before the adapter that h = (h - b) + b survives: -1, 0, 1, ..., or nothing."""
    bias = (np.arange(h.shape[-1]) % 3 - 1).astype(h.dtype)
    return bias if np.array_equal((h - bias) + bias, h) else np.zeros_like(bias)


def _outputs(evaluate: Evaluate, graph: SiteGraph, feeds: Mapping[str, Array], dtype: DType) -> dict[str, Array]:
    as_numpy = _TYPES[dtype].numpy()
    typed = {name: array.astype(as_numpy) for name, array in feeds.items()}
    arrays = evaluate(ir.to_proto(graph.model), list(graph.outputs.values()), typed)
    return {name: array.astype(dtype.memory) for name, array in zip(graph.outputs, arrays, strict=True)}


def _run_onnxruntime(model: onnx.ModelProto, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(list(outputs), dict(feeds)))


def _run_reference(model: onnx.ModelProto, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
    # Its Sigmoid evaluates both branches of a case distinction and takes the one that did not overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        found = ReferenceEvaluator(model).run(list(outputs), dict(feeds))
    return [np.asarray(array) for array in found]


def _extract(request: Request) -> Answer:
    request.out.write_bytes(extract(request.files["model"]))
    return Done()


def _graft(request: Request) -> Answer:
    graft(request.files["model"], request.files["adapter"], request.out)
    return Done()
