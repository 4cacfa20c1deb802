"""A decoder made without PyTorch: the next token is the sum of all before, modulo the vocabulary, kept in its cache."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.support.served import WORDS, served_tokenizer

VOCABULARY = len(WORDS)
PADDING = 0
"""Adds nothing to a sum."""


def summing_decoder() -> onnx.ModelProto:
    """logits[b, 0, v] = -(v - sum_t tokens[b, t] mod V)^2."""
    floats, integers = TensorProto.FLOAT, TensorProto.INT64
    inputs = [
        helper.make_tensor_value_info("input_ids", integers, ["batch", "sequence"]),
        helper.make_tensor_value_info("attention_mask", integers, ["batch", "past + sequence"]),
        helper.make_tensor_value_info("past_key_values.0.key", floats, ["batch", 1, "past", 1]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", floats, ["batch", 1, VOCABULARY]),
        helper.make_tensor_value_info("present.0.key", floats, ["batch", 1, "total", 1]),
    ]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["new"], to=floats),
        helper.make_node("Unsqueeze", ["new", "outer"], ["column"]),
        helper.make_node("Concat", ["past_key_values.0.key", "column"], ["present.0.key"], axis=2),
        helper.make_node("ReduceSum", ["present.0.key", "third"], ["sum"], keepdims=0),
        helper.make_node("Mod", ["sum", "size"], ["next"], fmod=1),
        helper.make_node("Sub", ["range", "next"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["square"]),
        helper.make_node("Neg", ["square"], ["logits"]),
    ]
    constants: dict[str, NDArray[Any]] = {
        "outer": np.array([1, 3]),
        "third": np.array([2]),
        "size": np.array(VOCABULARY, np.float32),
        "range": np.arange(VOCABULARY, dtype=np.float32),
    }
    initialisers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "summing", inputs, outputs, initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write_decoder(directory: Path, settings: Mapping[str, Any]) -> Path:
    """Write model.onnx, tokenizer.json and generation_config.json; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(summing_decoder(), directory / "model.onnx")
    served_tokenizer(direction="left").save(str(directory / "tokenizer.json"))
    (directory / "generation_config.json").write_text(json.dumps({"pad_token_id": PADDING, **settings}))
    return directory


def sums(prompt: list[int], count: int) -> list[int]:
    """The prompt and what follows."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(sum(tokens) % VOCABULARY)
    return tokens
