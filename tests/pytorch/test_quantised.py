"""Adapters on backbones that bitsandbytes has quantised: attached, trained, saved, recognised again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, BitsAndBytesConfig

from compacter_core.adapter import DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.sketch import THRESHOLD, correlation, is_sketched, weight_name
from compacter_core.format.writer import adapter_bytes
from compacter_core.pytorch import (
    attach,
    attach_adapter,
    count_parameters,
    detach,
    from_pretrained,
    save_pretrained,
    sketch_backbone,
)
from compacter_core.reference.adapter import forward
from compacter_core.reference.bounds import forward_bound, worst_ratio
from tests.pytorch.helpers import attach_trained, backward, logits, tiny_adapter_config
from tests.support.models import tiny_config, tiny_inputs

WIDTH = 64

bnb = pytest.importorskip("bitsandbytes")


def four_bit(linear: nn.Linear) -> nn.Module:
    one = bnb.nn.Linear4bit(linear.in_features, linear.out_features, quant_type="nf4", compute_dtype=torch.float32)
    one.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=False)
    return _with_bias(one, linear)


def eight_bit(linear: nn.Linear) -> nn.Module:
    one = bnb.nn.Linear8bitLt(linear.in_features, linear.out_features, has_fp16_weights=False)
    one.weight = bnb.nn.Int8Params(linear.weight.data, requires_grad=False, has_fp16_weights=False)
    return _with_bias(one, linear)


def _with_bias(one: Any, linear: nn.Linear) -> nn.Module:
    one.bias = linear.bias
    # Quantises.
    moved: nn.Module = one.to("cpu")
    return moved


class Packed(nn.Module):
    """As libraries do whose weights are no parameter."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("qweight", linear.weight.detach().clone())
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.get_buffer("qweight"), self.bias)


FORMS: dict[str, Callable[[nn.Linear], nn.Module]] = {"4 bit": four_bit, "8 bit": eight_bit}
forms = pytest.mark.parametrize("form", FORMS)


def quantise(model: Any, form: Callable[[nn.Linear], nn.Module], *, skip: tuple[str, ...] = ("classifier",)) -> Any:
    """Every linear but those with these words in their names."""
    found = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    for name in found:
        if not any(word in name for word in skip):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, form(model.get_submodule(name)))
    return model.eval()


def plain(seed: int = 0) -> Any:
    """Large enough for the library's blocks of 64."""
    config = tiny_config("bert")
    config.hidden_size = config.intermediate_size = WIDTH
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForSequenceClassification.from_config(config).eval()


def quantised(form: str, seed: int = 0) -> Any:
    return quantise(plain(seed), FORMS[form])


@forms
def test_train_save_load_and_detach(form: str, tmp_path: Path) -> None:
    inputs, model = tiny_inputs(), quantised(form)
    bare, state = logits(model, inputs), {name: value.clone() for name, value in model.state_dict().items()}
    attached = attach(model, tiny_adapter_config(model))
    optimiser = torch.optim.AdamW(attached.trainable_parameters(), lr=1e-2)
    losses = []
    for _ in range(4):
        optimiser.zero_grad()
        loss = model(**inputs, labels=torch.tensor([0, 1, 2])).loss
        backward(loss)
        losses.append(loss.item())
        assert all(parameter.grad is not None for parameter in attached.trainable_parameters())
        optimiser.step()
    assert losses[-1] < losses[0]
    assert {parameter.dtype for parameter in attached.parameters()} == {torch.float32}
    save_pretrained(model, tmp_path)
    fresh = quantised(form)
    again = from_pretrained(fresh, tmp_path, trainable=True)  # without gradients, 4-bit layers use other kernels
    assert torch.equal(logits(fresh, inputs), logits(model, inputs))
    assert adapter_bytes(again.to_adapter()) == (tmp_path / "adapter_model.safetensors").read_bytes()
    detach(model)
    assert torch.equal(logits(model, inputs), bare)
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@forms
def test_sites_compute_what_the_reference_does(form: str) -> None:
    seen: list[tuple[torch.Tensor, ...]] = []
    model = quantised(form)
    attached = attach_trained(model)
    site = attached.config.sites[-1].id
    attached.at(site).register_forward_hook(lambda _, args, output: seen.append((*args, output)))
    logits(model, tiny_inputs())
    x, skip, got = (value.detach().double().numpy() for value in seen[0])
    parameters = attached.to_adapter().site(site)
    bound = forward_bound(parameters, x, skip, storage=DType.F32, accumulate=DType.F32)
    assert worst_ratio(got, forward(parameters, x, skip), bound) <= 1


@forms
def test_sketches_are_of_the_dequantised_weights(form: str) -> None:
    """So the adapter is of this backbone and not of the original, whose numbers are others."""
    model = quantised(form)
    adapter = attach_trained(model).to_adapter()
    name = adapter.config.sites[0].id
    original = plain()
    exact = original.bert.encoder.layer[0].attention.output.dense.weight.detach().numpy().T
    sketch = adapter.sketches[weight_name(name)]
    assert not is_sketched(sketch, exact)
    assert THRESHOLD <= correlation(sketch, exact) < 1
    with pytest.raises(CompacterError) as error:
        attach_adapter(original, adapter)
    assert error.value.code is ErrorCode.E403


@pytest.mark.spec("SKT-13")
@forms
def test_adapters_of_the_original_fit(form: str) -> None:
    """Trained in floating point, run on the quantised backbone; one of other weights is refused."""
    adapter = attach_trained(plain()).to_adapter()
    model = quantised(form)
    attached = attach_adapter(model, adapter)
    attached.load(adapter)
    with pytest.raises(CompacterError) as error:
        attach_adapter(quantised(form, seed=1), adapter)
    assert error.value.code is ErrorCode.E403
    with pytest.raises(CompacterError) as error:
        attached.load(attach_trained(plain(seed=1)).to_adapter())
    assert error.value.code is ErrorCode.E403


@forms
def test_with_sketches_of_the_original_the_adapter_fits_both(form: str) -> None:
    original = plain()
    config = tiny_adapter_config(original)
    sketches = sketch_backbone(original, config)
    model = quantised(form)
    adapter = attach(model, config, sketches=sketches).to_adapter()
    assert adapter.sketches.keys() == attach(plain(), config).to_adapter().sketches.keys()
    attach_adapter(original, adapter)
    attach_adapter(quantised(form), adapter)
    with pytest.raises(CompacterError) as error:
        attach(quantised(form, seed=1), config, sketches=sketches)
    assert error.value.code is ErrorCode.E403


@forms
def test_sketches_survive_the_first_forward_pass(form: str) -> None:
    """8-bit layers move their scales then, 4-bit ones their bytes; rounding may change the values by 2^-8."""
    adapter = attach_trained(quantised(form)).to_adapter()
    model = quantised(form)
    with torch.no_grad():
        logits(model, tiny_inputs())
    again = attach_adapter(model, adapter).to_adapter()
    for name, sketch in adapter.sketches.items():
        assert is_sketched(sketch, again.sketches[name]), name


def test_counts_are_of_numbers_not_of_bytes() -> None:
    original, model = plain(), quantised("4 bit")
    attach(original, tiny_adapter_config(original))
    attach(model, tiny_adapter_config(model))
    assert count_parameters(model) == count_parameters(original)


def test_unknown_forms_are_refused_unless_the_original_is_known() -> None:
    original = plain()
    config = tiny_adapter_config(original)
    model = quantise(plain(), Packed)
    inputs = tiny_inputs()
    bare = logits(model, inputs)
    with pytest.raises(CompacterError) as error:
        attach(model, config)
    assert error.value.code is ErrorCode.E003
    assert "Packed" in str(error.value)
    assert torch.equal(logits(model, inputs), bare)
    assert not hasattr(model, "compacter")
    attached = attach(model, config, sketches=sketch_backbone(original, config))
    attach_adapter(original, attached.to_adapter())


@forms
def test_a_quantised_head_is_refused(form: str) -> None:
    model = quantise(plain(), FORMS[form], skip=())
    config = tiny_adapter_config(model)
    with pytest.raises(CompacterError) as error:
        attach(model, config)
    assert error.value.code is ErrorCode.E003
    with pytest.raises(CompacterError) as error:
        attach(quantised(form), config, train_pooler=True)
    assert error.value.code is ErrorCode.E003
    attach(model, config, train_head=False)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_checkpoint_loaded_by_transformers(bits: int, tmp_path: Path) -> None:
    """As users do it: `from_pretrained` with a quantisation config, and the sketches of the checkpoint."""
    original = plain()
    original.save_pretrained(tmp_path)
    options = BitsAndBytesConfig(
        load_in_4bit=bits == 4, load_in_8bit=bits == 8, llm_int8_skip_modules=["classifier"], bnb_4bit_quant_type="nf4"
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, quantization_config=options, device_map="cpu", dtype=torch.float32
    )
    assert model.bert.encoder.layer[0].output.dense.weight.dtype is {4: torch.uint8, 8: torch.int8}[bits]
    config = tiny_adapter_config(model)
    attached = attach_trained(model, config, sketches=sketch_backbone(original, config))
    output = model(**tiny_inputs(), labels=torch.tensor([0, 1, 2]))
    backward(output.loss)
    assert all(parameter.grad is not None for parameter in attached.trainable_parameters())
    adapter = attached.to_adapter()
    assert adapter.config.hidden_size == WIDTH
    attach_adapter(original, adapter)
