"""A small BERT with AdapterHub's own adapter modules, and our tensors in them.

Site number i of the adapter is in layer number i: in the layer's output for `ffn`, in that of its attention for the
other sublayers. Only the modules at the end of these sublayers run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import adapters
import torch
from adapters.context import ForwardContext
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from compacter_core.adapter import Adapter, Array
from compacter_core.config import AdapterConfig, Attach
from compacter_core.conformance.implementations.pytorch import AffineNorm
from compacter_core.layout import Part, Side, projection_names, scaling_name
from compacter_core.vocabulary import ProjectionKind, ScalingKind, Sublayer
from examples.adapterhub.translation import bn_config, shared_key

NAME: Final = "bridge"


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A parameter of AdapterHub's; `transposed` says that ours is [in, out] and theirs is [out, in]."""

    parameter: nn.Parameter
    transposed: bool = False

    def ours(self, tensor: Tensor) -> Tensor:
        """Their tensor, or its gradient, as ours."""
        return tensor.T if self.transposed else tensor


class AdapterHubModel:
    """A BERT with one adapter.

    Args:
        config: an adapter that AdapterHub can express.
        attach: a placement that it has.
    """

    def __init__(self, config: AdapterConfig, attach: Attach | None = None) -> None:
        self._config = config
        self._bert: Any = BertModel(
            BertConfig(
                hidden_size=config.hidden_size,
                num_hidden_layers=len(config.sites),
                num_attention_heads=1,
                intermediate_size=1,
                vocab_size=1,
                max_position_embeddings=1,
                type_vocab_size=1,
            )
        ).eval()
        adapters.init(self._bert)
        self._options = bn_config(config, attach or Attach())
        self.renew()

    def renew(self) -> None:
        """A new adapter with initial values, in place of the present one."""
        if NAME in self._bert.adapters_config:
            self._bert.delete_adapter(NAME)
        self._bert.add_adapter(NAME, config=self._options)
        self._bert.set_active_adapters(NAME)

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Modules may run inside; this is how shared parameters reach them."""
        # An input of some batch size is asked for by another of its methods, prefix tuning, which is not in use.
        with ForwardContext(self._bert, torch.zeros(1, 1)):
            yield

    def at(self, site_id: str) -> Any:
        """AdapterHub's module of a site: called with x and skip, it returns y, act(z) and delta."""
        return self._sublayer(site_id).adapters[NAME]

    def end_of_sublayer(self, site_id: str, norm: AffineNorm) -> Any:
        """AdapterHub's module at the end of a sublayer: called with h and r, it returns the sublayer's result."""
        sublayer = self._sublayer(site_id)
        sublayer.dense, sublayer.LayerNorm = nn.Identity(), norm
        return sublayer

    def load(self, adapter: Adapter) -> None:
        """Takes over the tensors of an adapter, and its type."""
        dtype = torch.from_numpy(next(iter(adapter.tensors.values()))).dtype
        self._bert.to(dtype)
        with torch.no_grad():
            for name, entry in self.parameters().items():
                entry.ours(entry.parameter).copy_(torch.from_numpy(adapter.tensors[name]))

    def parameters(self, site_ids: tuple[str, ...] | None = None) -> dict[str, Entry]:
        """AdapterHub's parameters by the names that our file has for them; of some sites, or of all."""
        found: dict[str, Entry] = {}
        for site in self._config.sites:
            if site_ids is not None and site.id not in site_ids:
                continue
            module = self.at(site.id)
            for side, layer in ((Side.DOWN, module.adapter_down[0]), (Side.UP, module.adapter_up)):
                for short, full in projection_names(self._config, site, side).tensors.items():
                    found[full] = self._entry(layer, side, short, full)
            if isinstance(self._config.scaling, ScalingKind):
                found[scaling_name(site)] = Entry(module.scaling)
        return found

    def tensors(self) -> dict[str, Array]:
        """Copies of the present values."""
        return {name: entry.ours(entry.parameter).detach().numpy().copy() for name, entry in self.parameters().items()}

    def _entry(self, layer: Any, side: Side, short: str, full: str) -> Entry:
        if full.startswith(f"{Part.SHARED}."):
            return Entry(self._bert.shared_parameters[NAME][shared_key(side, short)])
        if self._config.projection.kind is not ProjectionKind.DENSE:
            return Entry(getattr(layer, short))
        return Entry(layer.bias) if short == "b" else Entry(layer.weight, transposed=True)

    def _sublayer(self, site_id: str) -> Any:
        site = self._config.site(site_id)
        layer = self._bert.encoder.layer[self._config.sites.index(site)]
        return layer.output if site.sublayer is Sublayer.FFN else layer.attention.output
