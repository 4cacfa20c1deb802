"""Swappable graphs and banks of decoder-only models, pre-norm, with layer norms and with root-mean-square norms."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from compacter_core.adapter import Adapter, Array
from compacter_core.methods import create_config
from compacter_core.pytorch import attach, describe_backbone
from compacter_exporters.linkage.bank import graft_bank
from compacter_exporters.linkage.swappable import graft_swappable
from compacter_exporters.linkage.verify_open import verify_open
from compacter_exporters.verify import AGREEMENT
from compacter_runtime import Session

TOKENS = torch.randint(0, 50, (3, 7), generator=torch.Generator().manual_seed(0))
INPUTS = {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}


def decoder(kind: str) -> Any:
    """A tiny random model without a cache."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "gpt2":
            ids = {"bos_token_id": 1, "eos_token_id": 2}
            model: Any = GPT2LMHeadModel(
                GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=40, **ids)
            )
        else:
            sizes = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24, "vocab_size": 50}
            model = LlamaForCausalLM(LlamaConfig(num_attention_heads=2, num_key_value_heads=2, **sizes))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.config.use_cache = False
    return model.eval()


def export(model: Any, path: Path) -> Path:
    dynamic = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in INPUTS}
    torch.onnx.export(
        model,
        (),
        str(path),
        kwargs=INPUTS,
        input_names=list(INPUTS),
        output_names=["logits"],
        dynamic_shapes=dynamic,
        dynamo=True,
        verbose=False,
    )
    return path


def trained(model: Any) -> tuple[Adapter, Array]:
    attached = attach(model, create_config(describe_backbone(model), reduction_factor=4, phm_dim=2))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in attached.trainable_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        return attached.to_adapter(), model(**INPUTS).logits.numpy()


@pytest.mark.spec("LNK-1", "LNK-2", "LNK-11")
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_decoders_against_pytorch(tmp_path: Path, kind: str) -> None:
    model = decoder(kind)
    backbone = export(model, tmp_path / "model.onnx")
    adapter, expected = trained(model)
    inputs = {name: value.numpy() for name, value in INPUTS.items()}
    bare = Session(backbone).run(inputs)["logits"]
    limit = AGREEMENT * np.abs(expected).max()

    graft_swappable(backbone, adapter, tmp_path / "swappable.onnx")
    swappable = Session(tmp_path / "swappable.onnx")
    assert np.array_equal(swappable.run(inputs)["logits"], bare)
    got = swappable.run(inputs, adapter=swappable.load_adapter(adapter))["logits"]
    assert np.abs(got - expected).max() <= limit < np.abs(bare - expected).max()

    graft_bank(backbone, adapter, tmp_path / "bank.onnx")
    bank = Session(tmp_path / "bank.onnx")
    name = bank.bank.add(adapter)
    mixed = bank.run(inputs, adapter=[name, None, name])["logits"]
    assert np.abs(mixed - np.stack([expected[0], bare[1], expected[2]])).max() <= limit

    for linkage in ("swappable", "bank"):
        report = verify_open(tmp_path / f"{linkage}.onnx", [adapter])
        assert report.ok, report.as_text()
