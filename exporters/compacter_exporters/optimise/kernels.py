"""Which operators a target runs in bf16, where the operator's schema allows it.

Sources: the tables of docs/OperatorKernels.md of ONNX Runtime (CUDAExecutionProvider, types with `tensor(bfloat16)`),
and of docs/operators.md of onnx-tensorrt (rows without BF16). fp16 needs no table: where an execution provider has no
kernel for it, ONNX Runtime casts to fp32 itself, which it does not do for bf16.
"""

from collections.abc import Callable
from typing import Final

import onnx_ir as ir

from compacter_exporters.graph import STANDARD_DOMAINS
from compacter_exporters.optimise.choices import Precision, Target

_CUDA: Final = frozenset(
    {
        "Abs",
        "Add",
        "Attention",
        "Cast",
        "Compress",
        "Concat",
        "ConstantOfShape",
        "Conv",
        "Div",
        "Dropout",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Gelu",
        "Gemm",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "IsInf",
        "IsNaN",
        "LayerNormalization",
        "MatMul",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Pow",
        "RMSNormalization",
        "ReduceSum",
        "Relu",
        "Reshape",
        "RotaryEmbedding",
        "ScatterElements",
        "ScatterND",
        "Shape",
        "Sigmoid",
        "Sign",
        "SimplifiedLayerNormalization",
        "Size",
        "Slice",
        "Softmax",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tanh",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
    }
)
_CUDA_CONTRIB: Final = frozenset(
    {
        "Attention",
        "BiasGelu",
        "FastGelu",
        "FusedMatMul",
        "Gelu",
        "GroupQueryAttention",
        "MultiHeadAttention",
        "QuickGelu",
        "RotaryEmbedding",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)
"""Of the domain com.microsoft."""

_NOT_TENSORRT: Final = frozenset({"DeformConv", "GridSample", "Mish", "NonMaxSuppression", "NonZero", "RoiAlign"})


def kernels_of(target: Target, precision: Precision) -> Callable[[ir.Node], bool]:
    """Whether a node can be run in a precision, as far as the target knows operators at all."""
    if precision is not Precision.BF16:
        return lambda _: True
    return _in_cuda if target is Target.CUDA else _in_tensorrt


def _in_cuda(node: ir.Node) -> bool:
    return node.op_type in (_CUDA if node.domain in STANDARD_DOMAINS else _CUDA_CONTRIB)


def _in_tensorrt(node: ir.Node) -> bool:
    return node.op_type not in _NOT_TENSORRT
