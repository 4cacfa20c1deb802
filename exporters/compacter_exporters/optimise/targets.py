"""What each target can run, as a table, and the refusal of what it cannot.

Sources, all of them documentation and measurements of other parts; CUDA, TensorRT and WebGPU graphs were built and
checked in structure, but not run:

- cpu: ONNX Runtime's CPU provider computes fp16 by casting to fp32, so that it only costs time, and refuses most
  operators in bf16. Fusing beforehand was not measurably faster than what a session does when it loads the graph
  (`--tune` measures it for a given graph). What a session does to residual sums and norms was slower than leaving them
  alone (`sums`), at every size that was measured.
- cuda: docs/OperatorKernels.md of ONNX Runtime. MatMulNBits has a kernel; DynamicQuantizeLinear has none, so that every
  int8 product would travel to the CPU and back. A session does not fuse attention; onnxscript does, in what
  transformers exports.
- tensorrt: docs/operators.md of onnx-tensorrt: operators of the standard domain, opsets 9 to 24 (TensorRT 10.15). It
  quantises by calibration, not by integer operators in the graph.
- bf16: which operators cuda and tensorrt have in it is in `kernels`; webgpu knows no such type.
- webgpu: js/web/docs/webgpu-operators.md of ONNX Runtime has neither MatMulInteger nor DynamicQuantizeLinear, and its
  contrib_ops/webgpu/webgpu_contrib_kernels.cc registers MatMulNBits, but no product of integers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from compacter_core.errors import CompacterError, ErrorCode
from compacter_exporters.graph import STANDARD_DOMAINS
from compacter_exporters.operators import CONTRIB
from compacter_exporters.optimise.choices import Fuser, Precision, Target

_ANY_OPSET: Final = range(1, 1000)


@dataclass(frozen=True, slots=True)
class Traits:
    """What a target runs, and what is best for it.

    Args:
        precisions: of the weights.
        fuser: applied unless something else is measured to be faster.
        domains: of its operators.
        opsets: of the standard operators.
        sums_apart: whether residual sums are better kept from being fused with norms.
    """

    precisions: tuple[Precision, ...]
    fuser: Fuser = Fuser.NONE
    domains: tuple[str, ...] = (*STANDARD_DOMAINS, CONTRIB)
    opsets: range = _ANY_OPSET
    sums_apart: bool = False


TRAITS: Final[Mapping[Target, Traits]] = {
    Target.CPU: Traits((Precision.FP32, Precision.INT8, Precision.INT4), sums_apart=True),
    Target.CUDA: Traits((Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT4), fuser=Fuser.ONNXSCRIPT),
    Target.TENSORRT: Traits(
        (Precision.FP32, Precision.FP16, Precision.BF16), domains=STANDARD_DOMAINS, opsets=range(9, 25)
    ),
    Target.WEBGPU: Traits((Precision.FP32, Precision.FP16, Precision.INT4)),
}


def check_precision(target: Target, precision: Precision) -> None:
    """Refuse a precision that the target has no kernels for.

    Raises:
        CompacterError: E001.
    """
    possible = TRAITS[target].precisions
    if precision not in possible:
        others = [other.value for other, traits in TRAITS.items() if precision in traits.precisions]
        raise CompacterError(
            ErrorCode.E001,
            f"the target {target} has no kernels for this precision, or none that gain anything",
            value=precision.value,
            expected=", ".join(possible),
            remedy=f"Targets with {precision}: {', '.join(others)}.",
        )


def check_operators(model: ir.Model, target: Target) -> None:
    """Refuse a graph with operators that the target does not know.

    Raises:
        CompacterError: E605.
    """
    traits = TRAITS[target]
    version = next((version for domain, version in model.opset_imports.items() if domain in STANDARD_DOMAINS), 1)
    if version not in traits.opsets:
        raise CompacterError(
            ErrorCode.E605,
            f"the graph's opset is not one that the target {target} reads",
            value=version,
            expected=f"{traits.opsets.start} to {traits.opsets.stop - 1}",
            remedy="Export the backbone with another opset: compacter export --opset.",
        )
    unknown = {f"{node.domain}.{node.op_type}" for node in model.graph.all_nodes() if node.domain not in traits.domains}
    if unknown:
        raise CompacterError(
            ErrorCode.E605,
            f"the graph has operators that the target {target} does not know",
            value=sorted(unknown),
            expected="operators of the standard domain" if CONTRIB not in traits.domains else ", ".join(traits.domains),
            remedy="Graft into the backbone's export as it was before an optimiser fused or quantised it.",
        )
