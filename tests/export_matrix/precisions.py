"""What a backbone's graphs are quantised to before an adapter goes in: the last axis."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
import onnx_ir
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

from compacter_exporters.quiet import quiet

_BLOCK: Final = 16


@dataclass(frozen=True, slots=True)
class Precision:
    """A type of the backbone's weights.

    Args:
        convert: a graph to its quantised form, from file to file.
        is_exact: whether the adapter's error is all that the result may be off by from PyTorch's float32.
    """

    convert: Callable[[Path, Path], Any]
    is_exact: bool = False

    def apply(self, source: Path, folder: Path) -> None:
        """Write every graph of a directory to a new one, and the other files as they are."""
        folder.mkdir()
        for path in sorted(source.iterdir()):
            if path.suffix == ".onnx":
                with quiet():
                    self.convert(path, folder / path.name)
            elif path.suffix != ".data":
                shutil.copyfile(path, folder / path.name)


def _float(source: Path, target: Path) -> None:
    onnx.save(onnx.load(source), target)


def _half(source: Path, target: Path) -> None:
    half = onnx_ir.from_proto(convert_float_to_float16(onnx.load(source), keep_io_types=True))
    half.graph.sort()  # the converter puts some casts behind their use
    onnx_ir.save(half, target)


def _dynamic(source: Path, target: Path) -> None:
    # Graphs with fused operators have values whose type the quantiser cannot infer.
    options = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    quantize_dynamic(onnx.load(source), target, weight_type=QuantType.QInt8, extra_options=options)


def _weights_only(source: Path, target: Path) -> None:
    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=_BLOCK, is_symmetric=True, accuracy_level=1)
    quantizer.process()
    onnx.save(quantizer.model.model, target)


PRECISIONS: Final = {
    "fp32": Precision(_float, is_exact=True),
    "fp16": Precision(_half),
    "int8": Precision(_dynamic),
    "int4": Precision(_weights_only),
}
