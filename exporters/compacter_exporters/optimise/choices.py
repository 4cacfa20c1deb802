"""The finite choices of an optimised graph. They stand apart since naming them needs no package at all."""

from enum import StrEnum


class Target(StrEnum):
    """Where the graph will run, as an execution provider of ONNX Runtime."""

    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    WEBGPU = "webgpu"


class Precision(StrEnum):
    """The type of the backbone's weights.

    With int8 and int4 everything that comes from the adapter file (adapters, norms, head) stays in float; with fp16 and
    bf16 the graph is in that type but for its inputs and outputs, and for what would overflow or has no kernel.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def narrows(self) -> bool:
        """Whether the whole graph computes in 16 bits."""
        return self in (Precision.FP16, Precision.BF16)

    @property
    def quantises(self) -> bool:
        """Whether weights become integers."""
        return self in (Precision.INT8, Precision.INT4)


class Fuser(StrEnum):
    """Who fuses operators before the adapter goes in.

    none: nobody, ONNX Runtime does when it loads the graph; session: ONNX Runtime's own fusions, written out;
    onnxscript: its fusions for ONNX Runtime, attention among them; transformers: those of onnxruntime.transformers.
    """

    NONE = "none"
    SESSION = "session"
    ONNXSCRIPT = "onnxscript"
    TRANSFORMERS = "transformers"
