"""A servable model made without PyTorch: an ONNX graph whose outputs are small integers, a tokenizer, and an oracle.

hidden[b, t] = (words[id] + segments[type]) * mask, logits[b] = sum over t of hidden[b, t]: exact in float32, and wrong
as soon as padding, masks, segments or the order of rows are.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

CLASSES = 3
MAX_LENGTH = 16
UNKNOWN, START, END, PADDING = "[UNK]", "[CLS]", "[SEP]", "[PAD]"
WORDS = (UNKNOWN, START, END, PADDING, *"abcdefghijklmnop")
PAD_ID = WORDS.index(PADDING)

_generator = np.random.default_rng(11)
WORD_TABLE: NDArray[np.float32] = _generator.integers(-9, 10, (len(WORDS), CLASSES)).astype(np.float32)
SEGMENT_TABLE: NDArray[np.float32] = _generator.integers(-9, 10, (2, CLASSES)).astype(np.float32)

Text = str | tuple[str, str]


def served_graph(metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """The graph, with outputs `logits` and `hidden`."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES]),
        helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "sequence", CLASSES]),
    ]
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["word"]),
        helper.make_node("Gather", ["segments", "token_type_ids"], ["segment"]),
        helper.make_node("Add", ["word", "segment"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["embedded", "column"], ["hidden"]),
        helper.make_node("ReduceSum", ["hidden", "second"], ["logits"], keepdims=0),
    ]
    constants: dict[str, NDArray[Any]] = {
        "words": WORD_TABLE,
        "segments": SEGMENT_TABLE,
        "last": np.array([-1], np.int64),
        "second": np.array([1], np.int64),
    }
    initialisers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "served", inputs, outputs, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, dict(metadata or {}))
    return model


def served_tokenizer(*, direction: str = "right") -> Tokenizer:
    """One token per word, [CLS] a [SEP] or [CLS] a [SEP] b [SEP], truncated to MAX_LENGTH."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(START, WORDS.index(START)), (END, WORDS.index(END))],
    )
    tokenizer.enable_padding(direction=direction, pad_id=PAD_ID, pad_token=PADDING)
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


def write_served(
    directory: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    direction: str = "right",
) -> Path:
    """Write model.onnx, tokenizer.json and, given labels, config.json; returns the model's path."""
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(served_graph(metadata), directory / "model.onnx")
    served_tokenizer(direction=direction).save(str(directory / "tokenizer.json"))
    if labels is not None:
        names = {str(index): label for index, label in enumerate(labels)}
        (directory / "config.json").write_text(json.dumps({"id2label": names}))
    return directory / "model.onnx"


def expected_hidden(text: Text) -> NDArray[Any]:
    """The `hidden` rows of one text [tokens, CLASSES], from the words alone."""
    first, second = (text, None) if isinstance(text, str) else text
    ids = [[START, *first.split(), END], [*second.split(), END] if second is not None else []]
    return np.array(
        [WORD_TABLE[WORDS.index(word)] + SEGMENT_TABLE[segment] for segment, row in enumerate(ids) for word in row]
    )


def expected_logits(texts: Sequence[Text]) -> NDArray[Any]:
    """The `logits` [texts, CLASSES]."""
    return np.array([expected_hidden(text).sum(axis=0) for text in texts]).reshape(-1, CLASSES)
