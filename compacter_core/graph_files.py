"""The names of the graphs in an exported model's directory."""

from typing import Final

MODEL_FILE: Final = "model.onnx"
ENCODER_FILE: Final = "encoder_model.onnx"
DECODER_FILE: Final = "decoder_model.onnx"
DECODER_WITH_PAST_FILE: Final = "decoder_with_past_model.onnx"
MERGED_DECODER_FILE: Final = "decoder_model_merged.onnx"
