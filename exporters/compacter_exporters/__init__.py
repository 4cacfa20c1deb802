"""ONNX: backbones exported, adapters grafted into them, graphs verified against the reference."""
