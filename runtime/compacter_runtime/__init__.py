"""ONNX Runtime inference for grafted models, without PyTorch."""

from compacter_runtime.bank import Bank
from compacter_runtime.generator import Generator
from compacter_runtime.labels import Prediction
from compacter_runtime.onnx_adapter import PackedAdapter
from compacter_runtime.session import Inputs, Session

__all__ = ["Bank", "Generator", "Inputs", "PackedAdapter", "Prediction", "Session"]
