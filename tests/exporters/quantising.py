"""Quantised backbones, as ONNX Runtime's tools write them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from compacter_core.adapter import Array


@dataclass(frozen=True, kw_only=True)
class Int8:
    """Settings of dynamic quantisation."""

    per_channel: bool = False
    reduce_range: bool = False
    unsigned: bool = False

    def __str__(self) -> str:
        parts = ("column" if self.per_channel else "tensor", "uint8" if self.unsigned else "int8")
        return "-".join((*parts, *(["reduced"] if self.reduce_range else [])))


@dataclass(frozen=True, kw_only=True)
class Bits4:
    """Settings of weight-only quantisation."""

    block: int = 16
    symmetric: bool = True
    accuracy_level: int = 0

    def __str__(self) -> str:
        return f"{'symmetric' if self.symmetric else 'asymmetric'}-{self.block}-{self.accuracy_level}"


def int8(source: Path, target: Path, settings: Int8) -> Path:
    """Dynamic int8: the weights of all MatMuls, Gemms and embeddings."""
    with _quiet():
        quantize_dynamic(
            str(source),
            str(target),
            per_channel=settings.per_channel,
            reduce_range=settings.reduce_range,
            weight_type=QuantType.QUInt8 if settings.unsigned else QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    return target


def bits4(source: Path, target: Path, settings: Bits4) -> Path:
    """MatMulNBits with 4 bits in the place of all MatMuls with constant weights."""
    with _quiet():
        quantizer = MatMulNBitsQuantizer(
            onnx.load(source),
            block_size=settings.block,
            is_symmetric=settings.symmetric,
            accuracy_level=settings.accuracy_level,
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(target))
    return target


def static(source: Path, target: Path, inputs: dict[str, Array]) -> Path:
    """QuantizeLinear and DequantizeLinear around the MatMuls, with ranges measured on one input."""
    with _quiet():
        quantize_static(
            str(source),
            str(target),
            _One(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm", "Add"],
        )
    return target


class _One(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    def __init__(self, inputs: dict[str, Array]) -> None:
        self._batches: Iterator[dict[str, Array]] = iter([{name: np.asarray(one) for name, one in inputs.items()}])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
