"""Where AdapterHub puts its modules in the architectures that it supports itself, as patterns of their names."""

import re
from collections.abc import Collection, Mapping
from typing import Final

from compacter_core.config import Backbone
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.adapterhub.options import Options
from compacter_core.vocabulary import Stack, Sublayer

Place = tuple[Stack, Sublayer]
Places = Mapping[Place, str]
"""Module that owns the adapters of a sublayer, relative to the base model, with `{}` for the layer's number."""


def _layered(stack: Stack, layers: str, **owners: str) -> dict[Place, str]:
    return {(stack, Sublayer(sublayer)): f"{layers}.{{}}.{owner}" for sublayer, owner in owners.items()}


_BERT: Final = _layered(Stack.ENCODER, "encoder.layer", self_attn="attention.output", ffn="output")
_T5: Final = {
    **_layered(Stack.ENCODER, "encoder.block", self_attn="layer.0", ffn="layer.1"),
    **_layered(Stack.DECODER, "decoder.block", self_attn="layer.0", cross_attn="layer.1", ffn="layer.2"),
}
_OWNERS: Final = {"self_attn": "attention_adapters", "ffn": "output_adapters"}
_BART: Final = {
    **_layered(Stack.ENCODER, "encoder.layers", **_OWNERS),
    **_layered(Stack.DECODER, "decoder.layers", cross_attn="cross_attention_adapters", **_OWNERS),
}
_LLAMA: Final = _layered(Stack.DECODER, "layers", **_OWNERS)

PLACES: Final[Mapping[str, Places]] = {
    "bart": _BART,
    "bert": _BERT,
    "distilbert": _layered(Stack.ENCODER, "transformer.layer", **_OWNERS),
    "electra": _BERT,
    "gpt2": _layered(Stack.DECODER, "h", **_OWNERS),
    "llama": _LLAMA,
    "mbart": _BART,
    "mistral": _LLAMA,
    "mt5": _T5,
    "roberta": _BERT,
    "t5": _T5,
    "vit": _layered(Stack.ENCODER, "encoder.layer", self_attn="attention_adapters", ffn="output.output_adapters"),
    "xlm-roberta": _BERT,
}

PREFIXES: Final[Mapping[str, str]] = {
    "bart": "model",
    "gpt2": "transformer",
    "llama": "model",
    "mbart": "model",
    "mistral": "model",
    "mt5": "transformer",
    "t5": "transformer",
    "xlm-roberta": "roberta",
}
"""Name of the base model in models with a head, where it is not the model type."""


def places_of(model_type: str) -> Places:
    """The places of an architecture.

    Raises:
        CompacterError: E502 for one that this importer does not know.
    """
    if model_type not in PLACES:
        raise CompacterError(
            ErrorCode.E502, "architecture of the adapter", value=model_type, expected=", ".join(sorted(PLACES))
        )
    return PLACES[model_type]


def plugin_places(layers: str, stack: Stack) -> Places:
    """The places in a model that the library reaches through an interface."""
    return _layered(stack, layers, **_OWNERS)


def prefix_of(model_type: str) -> str:
    """Name of the base model inside a model with a head."""
    return PREFIXES.get(model_type, model_type)


def find_owners(keys: Collection[str], places: Places, name: str) -> tuple[str | None, list[str]]:
    """What the keys of an adapter begin with before the base model's names, and the sites that it has tensors of.

    Args:
        keys: of the checkpoint.
        places: of the architecture.
        name: of the adapter in the checkpoint.

    Returns:
        The prefix with its dot, or None if there is no such adapter; site ids in execution order.

    Raises:
        CompacterError: E501 if keys have different prefixes.
    """
    patterns = {place: _pattern(path) for place, path in places.items()}
    adapters, shared = f".adapters.{name}.", f"shared_parameters.{name}."
    found: dict[tuple[int, int, int], str] = {}
    prefixes = {key.partition(shared)[0] for key in keys if shared in key}
    for owner in dict.fromkeys(key.partition(adapters)[0] for key in keys if adapters in key):
        for (stack, sublayer), pattern in patterns.items():
            if match := pattern.fullmatch(owner):
                layer = int(match["layer"])
                prefixes.add(match["prefix"] or "")
                rank = (list(Stack).index(stack), layer, list(Sublayer).index(sublayer))
                found[rank] = f"{stack}.{layer}.{sublayer}"
    if len(prefixes) > 1:
        raise CompacterError(
            ErrorCode.E501,
            "the checkpoint's keys begin in different ways",
            value=sorted(prefixes),
            expected="the same prefix of all keys",
        )
    return next(iter(prefixes), None), [site_id for _, site_id in sorted(found.items())]


def owner_of(site_id: str, places: Places, prefix: str) -> str:
    """Name in the checkpoint of the module that owns a site's adapter."""
    stack, layer, sublayer = site_id.split(".")
    return prefix + places[Stack(stack), Sublayer(sublayer)].format(layer)


def expected_sites(options: Options, backbone: Backbone) -> dict[str, int]:
    """The sites that the options ask for in this backbone, with the layer's number counted through both stacks."""
    sites: dict[str, int] = {}
    for site_id in backbone.modules:
        stack, layer, sublayer = site_id.split(".")
        number = global_layer(Stack(stack), int(layer), backbone)
        if wants(options, Sublayer(sublayer)) and number not in options.leave_out:
            sites[site_id] = number
    return sites


def wants(options: Options, sublayer: Sublayer) -> bool:
    """Whether the options put an adapter behind that sublayer."""
    return {
        Sublayer.SELF_ATTN: options.mh_adapter,
        Sublayer.CROSS_ATTN: options.cross_adapter,
        Sublayer.FFN: options.output_adapter,
    }[sublayer]


def global_layer(stack: Stack, layer: int, backbone: Backbone) -> int:
    """The layer's number as that library counts: the decoder's go on after the encoder's."""
    return layer + (backbone.num_layers.get(Stack.ENCODER, 0) if stack is Stack.DECODER else 0)


def _pattern(path: str) -> re.Pattern[str]:
    before, after = path.split("{}")
    return re.compile(rf"(?P<prefix>[^.]+\.)?{re.escape(before)}(?P<layer>0|[1-9][0-9]{{0,4}}){re.escape(after)}")
