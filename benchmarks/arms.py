"""What the training benchmark compares: one adapter by itself, and whole models on one frozen BERT-base."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

import adapters
import numpy as np
import torch
from adapters.context import ForwardContext
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from compacter_core.config import AdapterConfig, Projection, Site
from compacter_core.methods import create_config
from compacter_core.pytorch import AdapterModule, attach, describe_backbone
from compacter_core.reference.initialise import initialise

REDUCTION: Final = 32
PHM_DIM: Final = 4


class Arm(StrEnum):
    """What is measured in every round."""

    OURS = "Compacter, ours"
    ADAPTERHUB = "Compacter, AdapterHub"
    DENSE = "dense adapter, AdapterHub"
    LORA = "LoRA, PEFT"
    FROZEN = "frozen backbone"


Call = Callable[[Tensor], Tensor]


@contextmanager
def single_adapters(hidden_size: int) -> Iterator[dict[Arm, tuple[Call, list[Tensor]]]]:
    """Functions x -> x + D(x) of one adapter, with their parameters, of the arms that have an adapter."""
    site = Site(id="encoder.0.ffn", bottleneck_size=hidden_size // REDUCTION)
    config = AdapterConfig(
        method="compacter", name="a", hidden_size=hidden_size, projection=Projection.compacter(PHM_DIM), sites=(site,)
    )
    ours = AdapterModule(config, initialise(config, np.random.default_rng(0)))
    compacter, dense = (_with_adapterhub(_bert(hidden_size, layers=1), arm) for arm in (Arm.ADAPTERHUB, Arm.DENSE))
    at_site = ours.at(site.id)
    # An input of some batch size is asked for by another of AdapterHub's methods, prefix tuning, which is not in use.
    with ForwardContext(compacter, torch.zeros(1, 1)):
        yield {
            Arm.OURS: (lambda x: at_site(x, x), list(ours.parameters())),
            Arm.ADAPTERHUB: _adapterhub_module(compacter),
            Arm.DENSE: _adapterhub_module(dense),
        }


def models(layers: int) -> dict[Arm, Any]:
    """One random BERT-base, frozen, with every arm's adapters; all copies share its weights."""
    torch.manual_seed(0)
    base = _bert(768, layers).requires_grad_(False).train()
    arms = {arm: copy.deepcopy(base, {id(parameter): parameter for parameter in base.parameters()}) for arm in Arm}
    ours = arms[Arm.OURS]
    config = create_config(describe_backbone(ours), method="compacter", phm_dim=PHM_DIM, reduction_factor=REDUCTION)
    attach(ours, config, train_norms=False, train_head=False)
    for arm in (Arm.ADAPTERHUB, Arm.DENSE):
        _with_adapterhub(arms[arm], arm)
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"])
    arms[Arm.LORA] = inject_adapter_in_model(lora, arms[Arm.LORA])
    return arms


def _bert(hidden_size: int, layers: int) -> Any:
    heads = max(1, hidden_size // 64)
    config = BertConfig(hidden_size=hidden_size, num_hidden_layers=layers, num_attention_heads=heads)
    return BertModel(config, add_pooling_layer=False)


def _with_adapterhub(model: nn.Module, arm: Arm) -> Any:
    kind = adapters.CompacterConfig if arm is Arm.ADAPTERHUB else adapters.DoubleSeqBnConfig
    sizes = {"phm_dim": PHM_DIM} if arm is Arm.ADAPTERHUB else {}
    adapters.init(model)
    any_model: Any = model
    any_model.add_adapter("a", config=kind(reduction_factor=REDUCTION, non_linearity="gelu_new", **sizes))
    any_model.train_adapter("a")
    return model


def _adapterhub_module(model: Any) -> tuple[Call, list[Tensor]]:
    module = model.encoder.layer[0].output.adapters["a"]
    return lambda x: module(x, x)[0], list(model.parameters())
