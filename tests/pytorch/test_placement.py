"""Every placement, in every bound architecture, gives the sublayer that the reference computes from r, h and N."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compacter_core.adapter import Array, DType, SiteParameters
from compacter_core.config import ATTACH_PRESETS, Attach
from compacter_core.pytorch import AttachedAdapter
from compacter_core.pytorch.bindings import bind
from compacter_core.reference.adapter import delta
from compacter_core.reference.bounds import forward_bound, layer_norm_bound, worst_ratio
from compacter_core.reference.placement import layer_norm, sublayer
from compacter_core.vocabulary import Input, ScalingKind, Skip, Sublayer
from tests.pytorch.helpers import attach_trained, logits, tiny_adapter_config
from tests.support.models import LAYERS, MODEL_TYPES, tiny_inputs, tiny_model

PLACEMENTS = [
    Attach(input=source, skip=skip, post=skip is Skip.SUBLAYER_OUTPUT)
    for source, skip in itertools.product(Input, Skip)
]


def name_of(attach: Attach) -> str:
    return f"{attach.input}-{attach.skip}"


class Watch:
    """Sees r, h and the result of every sublayer, through hooks set before the adapter's own."""

    def __init__(self, model: nn.Module) -> None:
        self.bound = bind(model)
        self.seen: dict[tuple[str, str], Array] = {}
        for layer in range(LAYERS):
            attention, ffn = (f"encoder.{layer}.{kind}" for kind in (Sublayer.SELF_ATTN, Sublayer.FFN))
            for site in (attention, ffn):
                self._see_input(self.bound.site(site).residual, (site, "r"))
                self._see_output(self.bound.site(site).linear, (site, "h"))
            # The result of the attention is the residual of the feed-forward part; that of the latter leaves the layer.
            self._see_input(self.bound.site(ffn).residual, (attention, "result"))
            layer_module = self.bound.base.get_submodule(self.bound.binding.layer.format(layer=layer))
            self._see_output(layer_module, (ffn, "result"))

    def _see_input(self, module: nn.Module, key: tuple[str, str]) -> None:
        module.register_forward_pre_hook(lambda _, args: self._keep(key, args[0]))

    def _see_output(self, module: nn.Module, key: tuple[str, str]) -> None:
        module.register_forward_hook(lambda _, args, output: self._keep(key, output))

    def _keep(self, key: tuple[str, str], value: Any) -> None:
        value = value[0] if isinstance(value, tuple) else value
        array = value.detach().numpy().copy()
        # A chunked feed-forward layer calls its modules once for each piece of the sequence.
        self.seen[key] = np.concatenate([self.seen[key], array], axis=1) if key in self.seen else array


@pytest.mark.spec("PLC-2", "PLC-3", "PLC-8")
@pytest.mark.parametrize("attach", PLACEMENTS, ids=name_of)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_sublayer(model_type: str, attach: Attach) -> None:
    model = tiny_model(model_type).double()
    watch = Watch(model)
    attached = attach_trained(model, tiny_adapter_config(model, attach=attach, scaling=ScalingKind.CHANNEL))
    with torch.no_grad():
        logits(model, tiny_inputs())
    assert attached.to_adapter().dtype is DType.F64
    for site in attached.config.sites:
        _check_sublayer(attached, watch, site.id)


class Norm:
    """N of one sublayer with its error bound, from the module's values."""

    def __init__(self, module: Any) -> None:
        self.gain, self.bias = (module.get_parameter(name).detach().numpy() for name in ("weight", "bias"))
        self.eps = module.eps

    def __call__(self, x: Array) -> Array:
        return layer_norm(x, self.gain, self.bias, self.eps)

    def error(self, x: Array, input_error: Array) -> Array:
        return layer_norm_bound(
            x, self.gain, self.bias, self.eps, storage=DType.F64, accumulate=DType.F64, input_error=input_error
        )


def _check_sublayer(attached: AttachedAdapter, watch: Watch, site_id: str) -> None:
    r, h, result = (watch.seen[site_id, what] for what in ("r", "h", "result"))
    attach, parameters = attached.config.attach, attached.to_adapter().site(site_id)
    norm = Norm(watch.bound.site(site_id).norm)
    expected = sublayer(attach, parameters, r, h, norm)
    assert worst_ratio(result, expected, _bound(attach, parameters, r, h, norm=norm)) <= 1
    assert np.abs(result - norm(r + h)).max() > 1e-3, "the adapter does something"


def _bound(attach: Attach, parameters: SiteParameters, r: Array, h: Array, *, norm: Norm) -> Array:
    """Errors of both sides: three terms are summed in either order, which rounds at most twice a sum of |terms|."""
    u = DType.F64.roundoff
    s = r + h
    E_s = 2 * u * (np.abs(r) + np.abs(h))
    exact = np.zeros_like(s)
    normed = (norm(s), norm.error(s, E_s))
    x, E_x = {Input.SUBLAYER_OUTPUT: (h, exact), Input.RESIDUAL: (r, exact), Input.NORMED_SUM: normed}[attach.input]
    skip, E_skip = {
        Skip.SUBLAYER_OUTPUT: (h, exact),
        Skip.RESIDUAL_SUM: (s, E_s),
        Skip.NORMED_SUM: normed,
    }[attach.skip]
    E_o = forward_bound(
        parameters, x, skip, storage=DType.F64, accumulate=DType.F64, input_error=E_x, skip_error=E_skip
    )
    if not attach.post:
        return E_o
    change = delta(parameters, x)
    return norm.error(r + h + change, E_o + 4 * u * (np.abs(r) + np.abs(h) + np.abs(change) + E_o))


@pytest.mark.parametrize("preset", ATTACH_PRESETS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_chunked_feed_forward(model_type: str, preset: str) -> None:
    """Feed-forward layers that work through the sequence in pieces give the same."""
    model = tiny_model(model_type).double()
    watch = Watch(model)
    attached = attach_trained(model, tiny_adapter_config(model, attach=ATTACH_PRESETS[preset]))
    chunked = [module for module in model.modules() if hasattr(module, "chunk_size_feed_forward")]
    for module in chunked:
        module.chunk_size_feed_forward = 2
    calls: list[int] = []
    attached.at("encoder.0.ffn").register_forward_hook(lambda _, args, output: calls.append(output.shape[1]))
    with torch.no_grad():
        logits(model, tiny_inputs(length=6))
    if ATTACH_PRESETS[preset] in (ATTACH_PRESETS["houlsby"], ATTACH_PRESETS["parallel"]) or model_type != "distilbert":
        assert calls == [2, 2, 2]
    for site in attached.config.sites:
        _check_sublayer(attached, watch, site.id)


@pytest.mark.spec("PLC-9")
def test_adapter_sees_what_dropout_leaves() -> None:
    """D reads h, after dropout, in training too."""
    model = tiny_model("bert", dropout=0.5)
    attached = attach_trained(model)
    model.train()
    site = bind(model).site("encoder.0.ffn")
    seen: list[torch.Tensor] = []
    site.linear.register_forward_hook(lambda _, args, output: seen.append(output))
    attached.at("encoder.0.ffn").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    logits(model, tiny_inputs())
    linear_output, x = seen
    dropped = x == 0
    assert 0.3 < dropped.float().mean() < 0.7
    assert torch.equal(x[~dropped], 2 * linear_output[~dropped])


@pytest.mark.spec("PLC-7")
def test_per_site_placement() -> None:
    """A site's own `attach` wins over the adapter's."""
    model = tiny_model("bert")
    config = tiny_adapter_config(model)
    sites = tuple(
        replace(site, attach=ATTACH_PRESETS["parallel"]) if site.sublayer is Sublayer.FFN else site
        for site in config.sites
    )
    mixed = attach_trained(model, replace(config, sites=sites))
    seen: dict[str, torch.Tensor] = {}
    for site in sites:
        mixed.at(site.id).register_forward_pre_hook(lambda _, args, key=site.id: seen.update({key: args[0]}))
    watch = Watch(model)
    with torch.no_grad():
        logits(model, tiny_inputs())
    np.testing.assert_array_equal(seen["encoder.1.ffn"].numpy(), watch.seen["encoder.1.ffn", "r"])
    np.testing.assert_array_equal(seen["encoder.1.self_attn"].numpy(), watch.seen["encoder.1.self_attn", "h"])
