"""ONNX Runtime inference for grafted models, without PyTorch."""
