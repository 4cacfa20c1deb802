"""Encoder and decoder in one graph, whose nodes somebody sorted anew."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compacter_exporters.graph import load_graph
from compacter_exporters.norms import find_norms

_WIDTH = 4


def two_stacks(path: Path, order: list[str], decoder_input: str) -> Path:
    """Norms e0, e1 of an encoder; d0, d1 of a decoder, where d1 is behind the sum of d0 and e1; in some order.

    The encoder's first value is shifted by the shape of what the decoder is given, as tracers write a shared axis.
    """
    nodes = {name: helper.make_node("LayerNormalization", [f"{name}.x", name], [f"{name}.y"]) for name in order}
    nodes["e0"].input[0], nodes["e1"].input[0], nodes["d0"].input[0] = "shifted", "e0.y", decoder_input
    first = [
        helper.make_node("Shape", [decoder_input], ["shape"]),
        helper.make_node("Cast", ["shape"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers"], ["number"]),
        helper.make_node("Add", ["states", "number"], ["shifted"]),
    ]
    body = []
    for name in order:
        if name == "d1":
            body.append(helper.make_node("Add", ["d0.y", "e1.y"], ["d1.x"]))
        body.append(nodes[name])
    floats = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", _WIDTH]) for name in ("states", decoder_input)
    ]
    outputs = [helper.make_tensor_value_info("d1.y", TensorProto.FLOAT, ["rows", _WIDTH])]
    gains = [numpy_helper.from_array(np.ones(_WIDTH, np.float32), name) for name in order]
    graph = helper.make_graph([*first, *body], "stacks", floats, outputs, gains)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def gains(path: Path) -> list[str]:
    """Names of the gains of the norms that are found, in order."""
    return [str(norm.gain.value.name) for norm in find_norms(load_graph(path).graph) if norm.gain.value is not None]


@pytest.mark.spec("ONX-11")
@pytest.mark.parametrize("order", ["e0 e1 d0 d1", "d0 e0 e1 d1", "e0 d0 e1 d1"])
def test_the_encoders_norms_come_first(tmp_path: Path, order: str) -> None:
    path = two_stacks(tmp_path / "stacks.onnx", order.split(), "decoder_inputs_embeds")
    assert gains(path) == ["e0", "e1", "d0", "d1"]


def test_a_single_stack_keeps_its_order(tmp_path: Path) -> None:
    path = two_stacks(tmp_path / "stacks.onnx", ["d0", "e0", "e1", "d1"], "others")
    assert gains(path) == ["d0", "e0", "e1", "d1"]
