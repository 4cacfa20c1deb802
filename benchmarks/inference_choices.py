"""What the inference benchmark can time: its arms, and the precisions of each target."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from compacter_core.linkage.kinds import Linkage
from compacter_exporters.forms import Form
from compacter_exporters.optimise.choices import Precision, Target

PRECISIONS: Final[Mapping[Target, tuple[Precision, ...]]] = {
    Target.CPU: (Precision.FP32, Precision.INT8),
    Target.CUDA: (Precision.FP32, Precision.FP16),
}
"""Of the backbone."""


class Arm(StrEnum):
    """What is timed."""

    BACKBONE = "backbone"
    FUSED = "backbone, fused"
    APART = "backbone, sums apart"
    ONNXSCRIPT = "backbone, onnxscript"
    MERGED = "merged"
    MERGED_APART = "merged, sums apart"
    MERGED_ONNXSCRIPT = "merged, onnxscript"
    MERGED_KERNELS = "merged, kernels"
    SWAPPABLE = "swappable"
    BANK = "bank"
    SHARED = "bank, shared norms"
    SWAPPABLE_KERNELS = "swappable, kernels"
    BANK_KERNELS = "bank, kernels"
    SHARED_KERNELS = "bank, shared norms, kernels"
    ROWS = "rows"
    ADAPTERHUB = "adapterhub"
    ADAPTERHUB_FUSED = "adapterhub, fused"

    @property
    def file(self) -> str:
        """The name of its graph."""
        return f"{self.value.replace(', ', '-').replace(' ', '-')}.onnx"

    @property
    def is_bare(self) -> bool:
        """Whether it has no adapter."""
        return self in (Arm.BACKBONE, Arm.FUSED, Arm.APART, Arm.ONNXSCRIPT)

    @property
    def linkage(self) -> Linkage | None:
        """How its graph takes adapters; None for a graph that `graft` does not make."""
        if self in (Arm.SWAPPABLE, Arm.SWAPPABLE_KERNELS):
            return Linkage.SWAPPABLE
        if self in (Arm.BANK, Arm.SHARED, Arm.BANK_KERNELS, Arm.SHARED_KERNELS):
            return Linkage.BANK
        return Linkage.MERGED if self.is_merged or self is Arm.MERGED_KERNELS else None

    @property
    def shares_norms(self) -> bool:
        """Whether all rows have the backbone's norms."""
        return self in (Arm.SHARED, Arm.SHARED_KERNELS)

    @property
    def uses_kernels(self) -> bool:
        """Whether its adapters are calls, run by the kernels of compacter_runtime."""
        return self in (Arm.MERGED_KERNELS, Arm.SWAPPABLE_KERNELS, Arm.BANK_KERNELS, Arm.SHARED_KERNELS)

    @property
    def form(self) -> Form:
        """How it is grafted."""
        return Form.SUBLAYER if self.uses_kernels else Form.AUTO

    @property
    def is_merged(self) -> bool:
        """Whether it is one adapter in one graph, for all rows at once, in ONNX Runtime's own operators."""
        return self in (Arm.MERGED, Arm.MERGED_APART, Arm.MERGED_ONNXSCRIPT)

    @property
    def is_usual(self) -> bool:
        """Whether it is measured where nobody names arms."""
        return self not in (Arm.ROWS, Arm.ADAPTERHUB, Arm.ADAPTERHUB_FUSED)
