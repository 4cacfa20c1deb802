"""BERT's pooler feeds the head but is the backbone's: it trains with the head on demand, else it is recognised."""

from pathlib import Path

import pytest
import torch

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch import attach, from_pretrained, get_adapter, save_pretrained
from tests.pytorch.helpers import logits, tiny_adapter_config
from tests.support.models import tiny_inputs, tiny_model

POOLER = "bert.pooler.dense"


def with_another_pooler() -> torch.nn.Module:
    """The same backbone from a checkpoint without a pooler: it has random values."""
    model: torch.nn.Module = tiny_model("bert")
    with torch.no_grad():
        model.get_parameter(f"{POOLER}.weight").normal_(generator=torch.Generator().manual_seed(5))
    return model


@pytest.mark.spec("SKT-9")
def test_another_pooler_is_refused(tmp_path: Path) -> None:
    model = tiny_model("bert")
    attach(model, tiny_adapter_config(model))
    save_pretrained(model, tmp_path)
    with pytest.raises(CompacterError, match=r"sketch\.pooler\.weight") as caught:
        from_pretrained(with_another_pooler(), tmp_path)
    assert caught.value.code is ErrorCode.E403


def test_a_trained_pooler_is_saved_and_replaced(tmp_path: Path) -> None:
    model = tiny_model("bert")
    attached = attach(model, tiny_adapter_config(model), train_pooler=True)
    assert model.get_parameter(f"{POOLER}.weight").requires_grad
    with torch.no_grad():
        model.get_parameter(f"{POOLER}.bias").add_(0.5)
    expected = logits(model, tiny_inputs())
    save_pretrained(model, tmp_path)
    head = attached.to_adapter().config.head
    assert head is not None
    assert head.layers == (POOLER, "classifier")
    assert head.pooler is None

    fresh = with_another_pooler()
    from_pretrained(fresh, tmp_path)
    assert torch.equal(logits(fresh, tiny_inputs()), expected)
    assert get_adapter(fresh).to_adapter().config == attached.to_adapter().config


@pytest.mark.parametrize("model_type", ["roberta", "distilbert"])
def test_heads_without_a_pooler_have_no_sketch_of_one(model_type: str) -> None:
    model = tiny_model(model_type)
    adapter = attach(model, tiny_adapter_config(model)).to_adapter()
    assert adapter.sketches
    assert not any("pooler" in name for name in adapter.sketches)
