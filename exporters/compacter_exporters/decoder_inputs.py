"""Sample inputs of decoders, as an exporter traces them: tokens, masks, and a cache that a first pass has filled.

No axis is 0 or 1 long, for a tracer takes such an axis to be fixed; a cache is longer than what is added to it.
"""

import copy
from typing import Any

import torch
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutput

from compacter_exporters.source_model import SourceModel

_BATCH, _PAST, _NEW, _ENCODED = 2, 3, 2, 5


def decoder_only_inputs(source: SourceModel) -> dict[str, Any]:
    """Two new tokens behind three that are in the cache."""
    tokens = source.sample(_BATCH, _PAST + _NEW)["input_ids"]
    positions = torch.arange(_PAST + _NEW).expand(_BATCH, -1)
    # One that keeps all tokens: a model's own may keep a window, with its size among the tensors. The mask limits what
    # is seen of it.
    past = DynamicCache()
    with torch.no_grad():
        source.model(input_ids=tokens[:, :_PAST], past_key_values=past, use_cache=True)
    return {
        "input_ids": tokens[:, _PAST:],
        "attention_mask": torch.ones_like(tokens),
        "position_ids": positions[:, _PAST:].contiguous(),
        "past_key_values": past,
        "use_cache": True,
    }


def encoder_decoder_inputs(source: SourceModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """Three tokens without a cache, and two behind them with it."""
    encoded = source.sample(_BATCH, _ENCODED)
    tokens = source.sample(_BATCH, _PAST + _NEW)["input_ids"]
    with torch.no_grad():
        states = source.model.get_encoder()(**encoded).last_hidden_state
    common = {"encoder_outputs": BaseModelOutput(last_hidden_state=states), "use_cache": True}
    common["attention_mask"] = encoded["attention_mask"]
    without = {**common, "decoder_input_ids": tokens[:, :_PAST]}
    with torch.no_grad():
        past = source.model(**copy.deepcopy(without)).past_key_values
    return without, {**common, "decoder_input_ids": tokens[:, _PAST:], "past_key_values": past}
