"""A head that reads the mean of the last hidden states in place of BERT's pooler (ONX-50)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.adapter import DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch import attach, detach, from_pretrained, get_adapter, save_pretrained, set_active
from compacter_core.pytorch.pooling import mean_of_tokens, pool_before_head
from compacter_core.reference.bounds import worst_ratio
from compacter_core.reference.pooling import mean_bound
from compacter_core.reference.pooling import mean_of_tokens as reference_mean
from compacter_core.vocabulary import Pooling
from tests.pytorch.helpers import attach_trained, backward, logits, tiny_adapter_config
from tests.support.models import tiny_inputs, tiny_model

TYPES = {torch.float64: DType.F64, torch.float32: DType.F32}


def expected(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits by the formula, from the hidden states that the model's base gives."""
    hidden, mask = model.base_model(**inputs).last_hidden_state, inputs["attention_mask"]
    rows = [row[counts.bool()].mean(0) for row, counts in zip(hidden, mask, strict=True)]
    result: torch.Tensor = model.classifier(torch.stack(rows))
    return result


@pytest.mark.spec("ONX-50", "NUM-19")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@given(data=st.data())
def test_values_are_the_references(dtype: torch.dtype, data: st.DataObject) -> None:
    rows, tokens, d = (data.draw(st.integers(1, most)) for most in (3, 40, 5))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    hidden = torch.randn(rows, tokens, d, generator=generator, dtype=dtype)
    mask = torch.randint(2, (rows, tokens), generator=generator)
    mask[:, 0] = 1
    given_mask = data.draw(st.sampled_from([mask, None]))
    counted = np.ones((rows, tokens)) if given_mask is None else mask.numpy().astype(np.float64)
    wide = hidden.numpy().astype(np.float64)
    bound = mean_bound(wide, counted, storage=TYPES[dtype], accumulate=TYPES[dtype])
    assert worst_ratio(mean_of_tokens(hidden, given_mask).numpy(), reference_mean(wide, counted), bound) <= 1


def test_the_head_reads_the_mean(tmp_path: Path) -> None:
    model, inputs = tiny_model("bert"), tiny_inputs()
    before, keys = logits(model, inputs), set(model.state_dict())
    attached = attach_trained(model, pooling=Pooling.MEAN)
    assert not model.get_parameter("bert.pooler.dense.weight").requires_grad
    got = logits(model, inputs)
    torch.testing.assert_close(got, expected(model, inputs))
    without_mask = {"input_ids": inputs["input_ids"]}
    torch.testing.assert_close(logits(model, without_mask), logits(model, _all_seen(inputs)))

    head = attached.to_adapter().config.head
    assert head is not None
    assert (head.layers, head.pooler, head.pooling) == (("classifier",), None, Pooling.MEAN)
    assert not any("pooler" in name for name in attached.to_adapter().sketches)
    save_pretrained(model, tmp_path)
    fresh = tiny_model("bert")
    from_pretrained(fresh, tmp_path)
    assert torch.equal(logits(fresh, inputs), got)
    assert get_adapter(fresh).to_adapter().config == attached.to_adapter().config

    detach(model)
    assert torch.equal(logits(model, inputs), before)
    assert set(model.state_dict()) == keys


def _all_seen(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return inputs | {"attention_mask": torch.ones_like(inputs["attention_mask"])}


def test_adapters_with_and_without_it_share_a_model() -> None:
    model, inputs = tiny_model("bert"), tiny_inputs()
    attach_trained(model, name="pooler")
    with_pooler = logits(model, inputs)
    attach_trained(model, name="mean", pooling=Pooling.MEAN)
    with_mean = logits(model, inputs)
    assert not torch.allclose(with_mean, with_pooler)
    set_active(model, "pooler")
    assert torch.equal(logits(model, inputs), with_pooler)
    set_active(model, "mean")
    assert torch.equal(logits(model, inputs), with_mean)


def test_gradients_reach_adapter_and_head() -> None:
    model = tiny_model("bert")
    attached = attach_trained(model, pooling=Pooling.MEAN)
    backward(logits(model, tiny_inputs()).square().sum())
    assert all(parameter.grad is not None for parameter in attached.trainable_parameters())


def test_it_is_traced_in_one_graph() -> None:
    model, inputs = tiny_model("bert"), tiny_inputs()
    attach_trained(model, pooling=Pooling.MEAN)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(logits(compiled, inputs), logits(model, inputs))


def test_full_fine_tuning_may_read_it_too() -> None:
    model, inputs = tiny_model("bert"), tiny_inputs()
    before = logits(model, inputs)
    pool_before_head(model, None)
    assert torch.equal(logits(model, inputs), before)
    pool_before_head(model, Pooling.MEAN)
    torch.testing.assert_close(logits(model, inputs), expected(model, inputs))


@pytest.mark.parametrize(("model_type", "task"), [("roberta", "text-classification"), ("bert", "token-classification")])
def test_heads_without_a_place_for_it_are_refused(model_type: str, task: str) -> None:
    model = tiny_model(model_type, task)
    with pytest.raises(CompacterError, match="pooling") as caught:
        attach(model, tiny_adapter_config(model), pooling=Pooling.MEAN)
    assert caught.value.code is ErrorCode.E803
    assert not hasattr(model, "compacter")


@pytest.mark.parametrize("is_base", [True, False])
def test_a_pooling_without_a_head_is_refused(is_base: bool) -> None:
    model = tiny_model("bert").base_model if is_base else tiny_model("bert")
    with pytest.raises(CompacterError, match="pooling") as caught:
        attach(model, tiny_adapter_config(model), pooling=Pooling.MEAN, train_head=is_base)
    assert caught.value.code is ErrorCode.E001
    assert not hasattr(model, "compacter")


def test_contradictions_are_refused() -> None:
    model, inputs = tiny_model("bert"), tiny_inputs()
    with pytest.raises(CompacterError, match="train_pooler") as caught:
        attach(model, tiny_adapter_config(model), pooling=Pooling.MEAN, train_pooler=True)
    assert caught.value.code is ErrorCode.E001
    plain = attach(model, tiny_adapter_config(model), train_pooler=True).to_adapter()
    detach(model)
    attached = attach_trained(model, pooling=Pooling.MEAN)
    with pytest.raises(CompacterError, match=r"head\.pooling") as caught:
        attached.load(plain)
    assert caught.value.code is ErrorCode.E001
    with pytest.raises(CompacterError, match="attention_mask") as caught:
        logits(model, inputs | {"attention_mask": torch.ones(3, 1, 7, 7)})
    assert caught.value.code is ErrorCode.E001
