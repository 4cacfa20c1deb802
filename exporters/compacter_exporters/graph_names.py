"""One naming of inputs, outputs and axes, whichever exporter made a graph: that of optimum-onnx.

past_key_values.<layer>.key, .value               the cache of a decoder, [batch, heads, past_sequence, head]
past_key_values.<layer>.decoder.key, .value       the same of an encoder-decoder
past_key_values.<layer>.encoder.key, .value       keys and values of the encoder's states, [.., encoder_sequence, ..]
present.<…>                                       the cache after the new tokens
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import onnx_ir

_ENCODED: Final = {
    "decoder_input_ids": "input_ids",
    "attention_mask": "encoder_attention_mask",
    "encoder_outputs.last_hidden_state": "encoder_hidden_states",
}
"""Inputs of the decoder of an encoder-decoder, where the exporter names them as the whole model does."""

_ENCODER_ECHO: Final = "encoder_last_hidden_state"
_CACHE: Final = re.compile(
    r"(input\.|output\.)?past_key_values\.((self|cross)_attention_cache\.)?layers\.(\d+)\.(key|value)s"
)
_STACK: Final = {"self": "decoder.", "cross": "encoder.", None: ""}
_SEQUENCES: Final[Sequence[tuple[str, tuple[str | None, ...]]]] = (
    (r"past_key_values\.\d+\.encoder\..*", ("batch", None, "encoder_sequence")),
    (r"past_key_values\..*", ("batch", None, "past_sequence")),
    (r"encoder_.*", ("batch", "encoder_sequence")),
    (r"pixel_values", ("batch",)),
    (r"(input_ids|attention_mask|token_type_ids|position_ids)", ("batch", "sequence")),
)
"""Names of an input's axes, by its name; the first that matches."""


def name_cache(model: onnx_ir.Model) -> onnx_ir.Model:
    """Give inputs and outputs of a decoder that transformers exported their names; the model itself is returned.

    The encoder's states are no output of a decoder, and no input of one that does not read them.
    """
    graph = model.graph
    if any(value.name == "decoder_input_ids" for value in graph.inputs):
        graph.outputs[:] = [value for value in graph.outputs if value.name != _ENCODER_ECHO]
        _drop_unread(graph)
        for value in graph.inputs:
            value.name = _ENCODED.get(str(value.name), value.name)
    for values, kind in ((graph.inputs, "past_key_values"), (graph.outputs, "present")):
        for value in values:
            match = _CACHE.fullmatch(str(value.name))
            if match is not None:
                value.name = f"{kind}.{match[4]}.{_STACK[match[3]]}{match[5]}"
    return model


def name_axes(graph: onnx_ir.Graph) -> None:
    """Give the dynamic axes their names, in place of the tracer's (`s18`), wherever the graph mentions them."""
    names: dict[str, str] = {}
    for value in graph.inputs:
        for dim, name in zip(value.shape or (), _axes(str(value.name)), strict=False):
            if isinstance(dim, onnx_ir.SymbolicDim) and name is not None and re.fullmatch(r"\w+", str(dim)):
                names.setdefault(str(dim), name)
    cached = [value for value in graph.inputs if str(value.name).startswith("past_key_values.")]
    for value in graph.inputs:
        if value.name == "attention_mask" and cached and value.shape is not None:
            names[str(value.shape[1])] = "past_sequence + sequence"
    for value in [*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)]:
        if value.shape is not None:
            value.shape = onnx_ir.Shape([_renamed(dim, names) for dim in value.shape])


def _axes(name: str) -> tuple[str | None, ...]:
    return next((axes for pattern, axes in _SEQUENCES if re.fullmatch(pattern, name)), ())


def _renamed(dim: int | onnx_ir.SymbolicDim, names: Mapping[str, str]) -> int | str | None:
    if isinstance(dim, int):
        return dim
    whole = names.get(str(dim.value))
    if dim.value is None or whole is not None:
        return whole
    return re.sub(r"\w+", lambda word: names.get(word[0], word[0]), str(dim.value))


def _drop_unread(graph: onnx_ir.Graph) -> None:
    """Remove nodes that no output depends on, and then inputs that nothing reads."""
    for node in reversed(list(graph)):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
    graph.inputs[:] = [value for value in graph.inputs if value.uses() or value.is_graph_output()]
