"""The operation `match`: an adapter against a backbone that is given as a description and arrays (CNF-6)."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from compacter_core.adapter import Adapter, Array
from compacter_core.compatibility import check_overrides, check_sites, check_structure, check_weights
from compacter_core.config import Backbone
from compacter_core.conformance.implementation import Answer, Done, Request
from compacter_core.conformance.implementations import arguments
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.format.sketch import POOLER
from compacter_core.layout import Part, Shape
from compacter_core.vocabulary import NormStyle, Stack

_LINEAR: Final = re.compile(rf"((?:encoder|decoder)\.\d+\.(?:self_attn|cross_attn|ffn)|{POOLER})\.(weight|bias)")


def match(request: Request) -> Answer:
    """Structure, sites, weights and overrides, in this order.

    Raises:
        CompacterError: E211, E401 to E405; what reading the files raises.
    """
    adapter = load_adapter(request.files["adapter"])
    tensors = {name: tensor.array for name, tensor in arguments.tensors(request, "weights").items()}
    actual = _backbone(request.args["backbone"])
    check_structure(adapter.config.backbone, actual)
    check_sites(adapter.config, actual)
    check_weights(adapter, _linears(tensors))
    shapes = {name: array.shape for name, array in tensors.items() if not _LINEAR.fullmatch(name)}
    check_overrides(adapter, shapes, _norms(adapter, shapes))
    return Done()


def _backbone(value: object) -> Backbone:
    if not isinstance(value, Mapping):
        raise CompacterError(ErrorCode.E001, "argument backbone", value=value, expected="an object")
    described: Mapping[str, Any] = value
    return Backbone(
        model_type=described["model_type"],
        hidden_size=described["hidden_size"],
        num_layers={Stack(stack): layers for stack, layers in described["num_layers"].items()},
        norm_style=NormStyle(described["norm_style"]),
    )


def _linears(tensors: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """The weights and biases that sketches are of, by the sketch's name."""
    return ((f"{Part.SKETCH}.{name}", array) for name, array in tensors.items() if _LINEAR.fullmatch(name))


def _norms(adapter: Adapter, shapes: Mapping[str, Shape]) -> Collection[str]:
    """The parameters that belong to norms; where the adapter names no norm, any vector may be one."""
    backbone = adapter.config.backbone
    if backbone is None or not backbone.norms:
        return {name for name, shape in shapes.items() if len(shape) == 1}
    return {name for name in shapes if name.rpartition(".")[0] in backbone.norms}
