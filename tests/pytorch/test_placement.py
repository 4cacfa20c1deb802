"""Every placement, in every bound architecture, gives the sublayer that the reference computes from r, h and N."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from compacter_core.adapter import DType
from compacter_core.config import ATTACH_PRESETS, Attach
from compacter_core.pytorch.bindings import bind
from compacter_core.vocabulary import Input, ScalingKind, Skip, Sublayer
from tests.pytorch.helpers import attach_trained, logits, tiny_adapter_config
from tests.support.models import MODEL_TYPES, tiny_inputs, tiny_model
from tests.support.sublayers import Watch, check_sublayer

PLACEMENTS = [
    Attach(input=source, skip=skip, post=skip is Skip.SUBLAYER_OUTPUT)
    for source, skip in itertools.product(Input, Skip)
]


def name_of(attach: Attach) -> str:
    return f"{attach.input}-{attach.skip}"


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
        check_sublayer(attached, watch, site.id)


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
        check_sublayer(attached, watch, site.id)


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
