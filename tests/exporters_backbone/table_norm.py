"""Adapters of DeBERTa that leave the norm of its table of relative positions to the backbone."""

from dataclasses import replace
from typing import Any, Final

import torch

from compacter_core.adapter import Adapter
from compacter_core.config import AdapterConfig
from tests.pytorch.helpers import attach_trained

TABLE_NORM: Final = "encoder.LayerNorm"


def keeping_table_norm(model: Any, config: AdapterConfig | None = None) -> Adapter:
    """An adapter that looks trained and is attached; the norm of the table is as it was, and not replaced."""
    norm = model.deberta.encoder.LayerNorm
    weight, bias = norm.weight.detach().clone(), norm.bias.detach().clone()
    adapter = attach_trained(model, config).to_adapter()
    with torch.no_grad():
        norm.weight.copy_(weight)
        norm.bias.copy_(bias)
    overrides = tuple(one for one in adapter.config.overrides if one.name.rpartition(".")[0] != TABLE_NORM)
    gone = {f"override.{TABLE_NORM}.{part}" for part in ("weight", "bias")}
    tensors = {name: array for name, array in adapter.tensors.items() if name not in gone}
    return replace(adapter, config=replace(adapter.config, overrides=overrides), tensors=tensors)
