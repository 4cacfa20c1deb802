"""The optimiser of a run: AdamW with a learning rate per part of the model."""

from typing import Any

import torch
from torch import nn

from compacter_core.pytorch.adapters import get_adapter
from compacter_core.pytorch.training.settings import AdapterRecipe, Recipe, Schedule


def make_optimiser(model: nn.Module, recipe: Recipe, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW over everything that trains; the rates of the groups fall and rise together.

    Weight decay spares biases, norms and the scaling: shrinking those is no regularisation.
    """
    rates = _own_rates(model, recipe) if isinstance(recipe, AdapterRecipe) else {}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = rates.get(name, recipe.learning_rate)
            groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    settings: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": rate,
            "weight_decay": schedule.weight_decay if decays else 0.0,
        }
        for (rate, decays), parameters in groups.items()
    ]
    # The fused kernel takes a tenth of the time of the default one on a CPU.
    return torch.optim.AdamW(settings, lr=recipe.learning_rate, fused=True)


def _own_rates(model: nn.Module, recipe: AdapterRecipe) -> dict[str, float]:
    """Learning rates by the parameter's name in the model, of the head and of what has pretrained values."""
    attached = get_adapter(model)
    replaced = {id(parameter) for parameter in attached.replaced_parameters().values()}
    base = {id(parameter) for parameter in attached.backbone.base.parameters()}
    pretrained_rate = recipe.pretrained_learning_rate or recipe.learning_rate
    head_rate = recipe.head_learning_rate or recipe.learning_rate
    return {
        name: pretrained_rate if id(parameter) in base else head_rate
        for name, parameter in model.named_parameters()
        if id(parameter) in replaced
    }
