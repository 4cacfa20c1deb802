"""fp16 and bf16 backbones. Inputs and outputs keep their types, so that nothing that runs the graph has to know."""

from pathlib import Path
from typing import Final

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from compacter_core.config import AdapterConfig
from compacter_exporters.fused.apart import put_together
from compacter_exporters.loaded_graph import load_backbone
from compacter_exporters.optimise.choices import Precision, Target
from compacter_exporters.optimise.kernels import kernels_of
from compacter_exporters.optimise.narrowing import narrow
from compacter_exporters.optimise.wide_nodes import wide_nodes

_TYPES: Final = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}


def halve(source: Path, target: Path, precision: Precision, where: Target, config: AdapterConfig) -> None:
    """Write a backbone in 16 bits.

    Args:
        source: the backbone in fp32.
        target: the file to write; its data goes to a file beside it.
        precision: fp16 or bf16.
        where: the graph will run: nodes without a kernel there stay in fp32.
        config: of an adapter for the backbone, which tells the backbone's kind.

    Raises:
        CompacterError: as `load_backbone`.
    """
    model = load_backbone(source)
    if model.functions:
        model = InlinePass()(model).model
    narrow(model, _TYPES[precision], wide=wide_nodes(model, config), has_kernel=kernels_of(where, precision))
    put_together(model)
    ir.save(model, target, external_data=f"{target.name}.data")
