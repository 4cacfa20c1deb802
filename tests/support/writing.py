"""Models that write, made without PyTorch: the next token is the sum of all before, modulo the vocabulary.

A decoder alone keeps what it has read in its cache, and so do the decoders behind an encoder, whose hidden states are
its tokens.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compacter_core.graph_files import DECODER_FILE, DECODER_WITH_PAST_FILE, ENCODER_FILE
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
    return _model(graph)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def summing_encoder() -> onnx.ModelProto:
    """encoder_hidden_states[b, t, 0] = tokens[b, t] * mask[b, t]."""
    names = ("input_ids", "attention_mask")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in names]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", 1])]
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["read"]),
        helper.make_node("Cast", ["read"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["numbers", "last"], ["last_hidden_state"]),
    ]
    last = numpy_helper.from_array(np.array([-1]), "last")
    return _model(helper.make_graph(nodes, "encoder", inputs, outputs, [last]))


def decoder_behind_it(*, with_past: bool) -> onnx.ModelProto:
    """logits[b, 0, v] = -(v - (sum of the hidden states + sum of all the decoder's tokens) mod V)^2."""
    floats, integers = TensorProto.FLOAT, TensorProto.INT64
    inputs = [
        helper.make_tensor_value_info("input_ids", integers, ["batch", "sequence"]),
        helper.make_tensor_value_info("encoder_hidden_states", floats, ["batch", "encoded", 1]),
    ]
    past, kept = "past_key_values.0.decoder.key", "present.0.decoder.key"
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["new"], to=floats),
        helper.make_node("ReduceSum", ["new", "second"], ["added"], keepdims=1),
        helper.make_node("Unsqueeze", ["added", "outer"], ["column"]),
    ]
    if with_past:
        inputs.append(helper.make_tensor_value_info(past, floats, ["batch", 1, 1, 1]))
        nodes.append(helper.make_node("Add", [past, "column"], [kept]))
    else:
        nodes.append(helper.make_node("Identity", ["column"], [kept]))
    nodes += [
        helper.make_node("ReduceSum", ["encoder_hidden_states", "second"], ["read"], keepdims=1),
        helper.make_node("Squeeze", [kept, "second"], ["said"]),
        helper.make_node("Add", ["read", "said"], ["sum"]),
        helper.make_node("Mod", ["sum", "size"], ["next"], fmod=1),
        helper.make_node("Sub", ["range", "next"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["square"]),
        helper.make_node("Neg", ["square"], ["logits"]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", floats, ["batch", 1, VOCABULARY]),
        helper.make_tensor_value_info(kept, floats, ["batch", 1, 1, 1]),
    ]
    constants: dict[str, NDArray[Any]] = {
        "outer": np.array([1, 3]),
        "second": np.array([1]),
        "size": np.array(VOCABULARY, np.float32),
        "range": np.arange(VOCABULARY, dtype=np.float32),
    }
    initialisers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return _model(helper.make_graph(nodes, "decoder", inputs, outputs, initialisers))


def write_encoder_decoder(directory: Path, settings: Mapping[str, Any]) -> Path:
    """Write an encoder, both its decoders, tokenizer.json and generation_config.json; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(summing_encoder(), directory / ENCODER_FILE)
    for name, with_past in ((DECODER_FILE, False), (DECODER_WITH_PAST_FILE, True)):
        onnx.save(decoder_behind_it(with_past=with_past), directory / name)
    return _write_texts(directory, settings)


def write_decoder(directory: Path, settings: Mapping[str, Any]) -> Path:
    """Write model.onnx, tokenizer.json and generation_config.json; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(summing_decoder(), directory / "model.onnx")
    return _write_texts(directory, settings)


def _write_texts(directory: Path, settings: Mapping[str, Any]) -> Path:
    served_tokenizer(direction="left").save(str(directory / "tokenizer.json"))
    (directory / "generation_config.json").write_text(json.dumps({"pad_token_id": PADDING, **settings}))
    return directory


def sums(prompt: list[int], count: int) -> list[int]:
    """The prompt and what follows."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(sum(tokens) % VOCABULARY)
    return tokens
