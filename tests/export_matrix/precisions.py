"""What a backbone's weights are stored in: an axis. Adapters stay in floating point."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

from compacter_exporters.optimise.choices import Precision as OurPrecision
from compacter_exporters.optimise.integers import quantise
from compacter_exporters.quiet import quiet

_BLOCK: Final = 16


Convert = Callable[[Path, Path], Any]
"""A graph to another one, from file to file."""


@dataclass(frozen=True, slots=True)
class Precision:
    """A type of the backbone's weights.

    Args:
        before: makes the graphs that adapters go into.
        after: is done to a graph with an adapter, or before one is opened for adapters; None for nothing.
        is_exact: whether the adapter's error is all that the result may be off by from PyTorch's float32.
    """

    before: Convert | None = None
    after: Convert | None = None
    is_exact: bool = False

    def prepare(self, source: Path, folder: Path) -> None:
        """Write every graph of a directory to a new one, with what is done before, and the other files as they are."""
        folder.mkdir()
        for path in sorted(source.iterdir()):
            if path.suffix == ".onnx":
                (self.before or _whole)(path, folder / path.name)
            elif path.suffix != ".data":
                shutil.copyfile(path, folder / path.name)

    def finish(self, folder: Path) -> None:
        """Do to the graphs of a directory what is done after."""
        for path in sorted(folder.glob("*.onnx")) if self.after is not None else ():
            original = path.with_name(f"before-{path.name}")
            _whole(path, original)
            path.unlink()
            (self.after or _whole)(original, path)
            original.unlink()


def _whole(source: Path, target: Path) -> None:
    """A copy without external data."""
    onnx.save(onnx.load(source), target)


def _halved(source: Path, target: Path) -> None:
    with quiet():
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def _dynamic(source: Path, target: Path) -> None:
    # Graphs with fused operators have values whose type the quantiser cannot infer.
    options = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    with quiet():
        quantize_dynamic(onnx.load(source), target, weight_type=QuantType.QInt8, extra_options=options)


def _weights_only(source: Path, target: Path) -> None:
    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=_BLOCK, is_symmetric=True, accuracy_level=1)
    with quiet():
        quantizer.process()
    onnx.save(quantizer.model.model, target)


def _ours(precision: OurPrecision) -> Convert:
    return lambda source, target: quantise(source, target, precision)


PRECISIONS: Final = {
    "fp32": Precision(is_exact=True),
    "fp16": Precision(_halved),
    "int8": Precision(_dynamic),
    "int4": Precision(_weights_only),
    "--precision int8": Precision(after=_ours(OurPrecision.INT8)),
    "--precision int4": Precision(after=_ours(OurPrecision.INT4)),
}
"""Graphs that others quantised, and what `compacter graft --precision` does to a grafted one."""
