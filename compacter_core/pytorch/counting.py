"""How many parameters a method trains on a backbone, without any weights: the model is built on the meta device.

The share is that of the paper's tables: adapter and norms over the backbone, without a head (section 4.1). The T5
models known here have 32,100 embeddings, the tokenizer's vocabulary, with which T5-base has the 222,882,048 parameters
that the paper's shares refer to; published checkpoints pad them to 32,128.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from compacter_core.config import AdapterConfig
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.layout import count_parameters
from compacter_core.methods import create_config
from compacter_core.pytorch.bindings import bind
from compacter_core.vocabulary import ProjectionKind

_T5: Final = {"vocab_size": 32_100, "d_kv": 64}
KNOWN: Final[Mapping[str, tuple[str, Mapping[str, int]]]] = {
    "t5-small": ("t5", _T5 | {"d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8}),
    "t5-base": ("t5", _T5 | {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}),
    "t5-large": ("t5", _T5 | {"d_model": 1024, "d_ff": 4096, "num_layers": 24, "num_heads": 16}),
    "bert-base-uncased": ("bert", {}),
    "gpt2": ("gpt2", {}),
}
"""Models that are known without a hub: model type, and sizes that differ from transformers' defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedCount:
    """What a method trains on a backbone.

    Args:
        model: the backbone's name.
        config: the adapter.
        adapter: scalars of the adapter proper, shared ones once.
        norms: scalars of the backbone's norms.
        backbone: scalars of the backbone, without a head.
    """

    model: str
    config: AdapterConfig
    adapter: int
    norms: int
    backbone: int

    @property
    def percent(self) -> float:
        """100 (adapter + norms) / backbone."""
        return 100 * (self.adapter + self.norms) / self.backbone

    def as_dict(self) -> dict[str, object]:
        """JSON-compatible fields."""
        return {
            "model": self.model,
            "method": self.config.method,
            "sites": len(self.config.sites),
            "bottleneck_size": self.config.sites[0].bottleneck_size,
            "adapter": self.adapter,
            "norms": self.norms,
            "trained": self.adapter + self.norms,
            "backbone": self.backbone,
            "trained_percent": self.percent,
            "formula": formula(self.config),
        }


def count_trained(model: str, **options: Any) -> TrainedCount:
    """Counts for a method on a backbone.

    Args:
        model: a name in `KNOWN`, a directory with a `config.json`, or a hub name.
        options: of `create_config`.

    Raises:
        CompacterError: E005 if there is no such model, E803 if it has no binding, and what `create_config` raises.
    """
    backbone = _on_meta(model)
    bound = bind(backbone)
    config = create_config(bound.description, **options)
    return TrainedCount(
        model=model,
        config=config,
        adapter=count_parameters(config),
        norms=sum(parameter.numel() for parameter in bound.norm_parameters().values()),
        backbone=sum(parameter.numel() for parameter in backbone.parameters()),
    )


def formula(config: AdapterConfig) -> str:
    """The adapter's count in the symbols of the specification and in numbers, for sites of one width k."""
    p = config.projection
    sizes = {"d": config.hidden_size, "k": config.sites[0].bottleneck_size, "n": p.phm_dim, "r": p.phm_rank}
    weights = {
        ProjectionKind.DENSE: "2*{d}*{k}",
        ProjectionKind.LOW_RANK: "2*{r}*({d} + {k})",
        ProjectionKind.PHM: "2*{d}*{k}/{n}",
        ProjectionKind.LPHM: "2*{r}*({d} + {k})",
    }[p.kind]
    own, shared = ("", " + {n}^3") if p.shared_phm_rule else (" + 2*{n}^3", "") if p.kind.has_rule else ("", "")
    pattern = f"{len(config.sites)} * ({weights} + {{d}} + {{k}}{own}){shared}"
    return f"{pattern.format(d='d', k='k', n='n', r='r')} = {pattern.format(**sizes)}"


def _on_meta(model: str) -> nn.Module:
    with torch.device("meta"):
        built: nn.Module = AutoModel.from_config(_configuration(model))
    return built


def _configuration(model: str) -> Any:
    if model in KNOWN:
        model_type, sizes = KNOWN[model]
        return AutoConfig.for_model(model_type, **sizes)
    if Path(model).exists() and not (Path(model) / "config.json").is_file():
        raise CompacterError(ErrorCode.E005, "the directory has no config.json", value=model)
    try:
        return AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise CompacterError(
            ErrorCode.E005,
            f"no such model ({' '.join(str(error).split())[:120]})",
            value=model,
            expected=f"{', '.join(KNOWN)}, a directory with a config.json, or a name that the hub knows",
        ) from error
