"""ONNX Runtime inference for grafted models, without PyTorch."""

from compacter_runtime.labels import Prediction
from compacter_runtime.session import Inputs, Session

__all__ = ["Inputs", "Prediction", "Session"]
