"""Several adapters on one model: each behaves as if it were alone, and none leaves a trace."""

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compacter_core.config import Override
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.methods import Method
from compacter_core.pytorch import (
    adapter_names,
    attach,
    attach_adapter,
    detach,
    from_pretrained,
    get_adapter,
    read_binding,
    save_pretrained,
    set_active,
)
from compacter_core.vocabulary import OverrideKind
from tests.pytorch.helpers import attach_trained, backward, logits, tiny_adapter_config
from tests.support.models import MODEL_TYPES, tiny_inputs, tiny_model

# Three adapters that differ in all that an adapter has: tensors, placement, norms, head, labels.
METHODS = {"first": Method.COMPACTER, "second": Method.PARALLEL, "third": Method.PFEIFFER}
OPTIONS: dict[str, dict[str, Any]] = {
    "first": {"seed": 1},
    "second": {"seed": 2, "train_norms": False},
    "third": {"seed": 3, "train_head": False},
}


def config_of(model: Any, name: str) -> Any:
    return tiny_adapter_config(model, METHODS[name], name=name)


def alone(name: str, model_type: str = "bert", *, dtype: torch.dtype = torch.float32) -> Any:
    """A model with that adapter and no other."""
    model = tiny_model(model_type).to(dtype)
    attach_trained(model, config_of(model, name), **OPTIONS[name])
    model.config.id2label = {index: f"{name} {index}" for index in range(3)}
    model.config.label2id = {f"{name} {index}": index for index in range(3)}
    return model


def together(model_type: str = "bert", names: tuple[str, ...] = tuple(METHODS)) -> Any:
    """A model with all of them; the last one is active."""
    model = tiny_model(model_type)
    for name in names:
        attach_trained(model, config_of(model, name), **OPTIONS[name])
        model.config.id2label = {index: f"{name} {index}" for index in range(3)}
        model.config.label2id = {f"{name} {index}": index for index in range(3)}
    return model


def state_of(model: Any) -> dict[str, torch.Tensor]:
    """Of the backbone with its head."""
    return {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("compacter.")}


def check_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert list(one) == list(other)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_each_is_as_if_alone(model_type: str) -> None:
    """Outputs, backbone, labels and the file, in every order of switching; the file also while not active."""
    inputs, bare = tiny_inputs(), tiny_model(model_type)
    singles = {name: alone(name, model_type) for name in METHODS}
    model = together(model_type)
    assert adapter_names(model) == tuple(METHODS)
    for name in ("third", "first", "second", None, "first", "third", None):
        set_active(model, name)
        single = bare if name is None else singles[name]
        assert torch.equal(logits(model, inputs), logits(single, inputs))
        check_equal(state_of(model), state_of(single))
        assert model.config.id2label == single.config.id2label
        assert model.config.label2id == single.config.label2id
        assert [adapter.is_active for adapter in model.compacter.children()] == [one == name for one in METHODS]
        for other, one in singles.items():
            assert adapter_bytes(get_adapter(model, other).to_adapter()) == adapter_bytes(get_adapter(one).to_adapter())


def test_only_the_active_one_trains() -> None:
    """In turns, with an optimiser each, the adapters become what they become alone, bit for bit."""
    singles = {name: alone(name) for name in METHODS}
    model = together()
    optimisers = {}
    for name in METHODS:
        set_active(model, name)
        optimisers[name] = _optimiser(model)
    for turn in range(3):
        for name in METHODS:
            set_active(model, name)
            _step(model, optimisers[name], seed=turn)
    for name, single in singles.items():
        optimiser = _optimiser(single)
        for turn in range(3):
            _step(single, optimiser, seed=turn)
        assert adapter_bytes(get_adapter(model, name).to_adapter()) == adapter_bytes(get_adapter(single).to_adapter())
    set_active(model, None)
    check_equal(state_of(model), state_of(tiny_model("bert")))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert list(get_adapter(model, "first").trainable_parameters()) == []


def _optimiser(model: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)


def _step(model: Any, optimiser: torch.optim.Optimizer, *, seed: int) -> None:
    optimiser.zero_grad()
    backward(model(**tiny_inputs(seed=seed), labels=torch.tensor([0, 1, 2])).loss)
    optimiser.step()


def test_unused_gradients_move_no_other_adapter() -> None:
    model = together()
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    backward(logits(model, tiny_inputs()).sum())
    set_active(model, "first")
    before = {name: adapter_bytes(get_adapter(model, name).to_adapter()) for name in METHODS}
    optimiser.step()
    assert {name: adapter_bytes(get_adapter(model, name).to_adapter()) for name in METHODS} == before


def test_what_is_frozen_stays_frozen() -> None:
    """Switching away and back changes no `requires_grad`, also where a user chose it."""
    model = together()
    get_adapter(model, "first").set_trainable(False)
    model.classifier.bias.requires_grad_(False)
    model.bert.embeddings.LayerNorm.weight.requires_grad_(False)
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    set_active(model, "first")
    assert not any(parameter.requires_grad for parameter in model.parameters())
    get_adapter(model).set_trainable(True)
    assert model.classifier.bias.requires_grad
    set_active(model, "third")
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == flags


@pytest.mark.parametrize("victim", METHODS)
@pytest.mark.parametrize("active", [*METHODS, None])
def test_detach_one(active: str | None, victim: str) -> None:
    model, inputs = together(), tiny_inputs()
    set_active(model, active)
    detach(model, victim)
    rest = tuple(name for name in METHODS if name != victim)
    assert adapter_names(model) == rest
    left = None if active == victim else active
    expected = tiny_model("bert") if left is None else alone(left)
    assert torch.equal(logits(model, inputs), logits(expected, inputs))
    attach_trained(model, config_of(model, victim), **OPTIONS[victim])
    assert torch.equal(logits(model, inputs), logits(alone(victim), inputs))
    for name in rest:
        set_active(model, name)
        assert torch.equal(logits(model, inputs), logits(alone(name), inputs))


@pytest.mark.parametrize("active", ["first", "third", None])
def test_detach_all(active: str | None) -> None:
    model, fresh, inputs = together(), tiny_model("bert"), tiny_inputs()
    set_active(model, active)
    detach(model)
    assert adapter_names(model) == ()
    assert not hasattr(model, "compacter")
    check_equal(state_of(model), state_of(fresh))
    assert torch.equal(logits(model, inputs), logits(fresh, inputs))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.config.id2label == fresh.config.id2label
    assert sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules()) == 0


def test_save_and_load_under_names(tmp_path: Path) -> None:
    """Files are those of the adapters alone, whatever name the model knows them by."""
    model, inputs = together(), tiny_inputs()
    for name in METHODS:
        save_pretrained(model, tmp_path / name, name)
    fresh = tiny_model("bert")
    for name in METHODS:
        from_pretrained(fresh, tmp_path / name, name=f"my-{name}")
        assert torch.equal(logits(fresh, inputs), logits(alone(name), inputs))
    assert adapter_names(fresh) == tuple(f"my-{name}" for name in METHODS)
    set_active(fresh, None)
    for name in METHODS:
        save_pretrained(fresh, tmp_path / "again", f"my-{name}")
        for file in (tmp_path / name).iterdir():
            assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("active", METHODS)
def test_load_into_one(active: str) -> None:
    model, inputs = together(), tiny_inputs()
    set_active(model, active)
    other = alone("second")
    with torch.no_grad():
        for parameter in get_adapter(other).trainable_parameters():
            parameter.mul_(1.5)
    get_adapter(model, "second").load(get_adapter(other).to_adapter())
    for name in METHODS:
        set_active(model, name)
        assert torch.equal(logits(model, inputs), logits(other if name == "second" else alone(name), inputs))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
def test_copies_switch_on_their_own(duplicate: Callable[[Any], Any]) -> None:
    model, inputs = together(), tiny_inputs()
    twin = duplicate(model)
    set_active(twin, "first")
    assert torch.equal(logits(twin, inputs), logits(alone("first"), inputs))
    assert torch.equal(logits(model, inputs), logits(alone("third"), inputs))
    detach(twin)
    assert torch.equal(logits(twin, inputs), logits(tiny_model("bert"), inputs))


@pytest.mark.usefixtures("plain_operations")
def test_compiled_code_follows() -> None:
    """Attaching, switching and detaching after compilation: a compiled layer gives what the layer gives."""
    torch.compiler.reset()
    # Frozen before and after, so that nothing but the hooks tells the compiler.
    model = tiny_model("bert", layers=1).requires_grad_(False)
    trained = tiny_model("bert", layers=1)
    adapters = {}
    for name in ("first", "third"):
        adapters[name] = attach_trained(trained, config_of(trained, name), **OPTIONS[name]).to_adapter()
    layer, h = model.bert.encoder.layer[0].output, torch.ones(1, 2, 24)
    compiled: Any = torch.compile(layer, backend="eager")

    def check() -> torch.Tensor:
        with torch.no_grad():
            expected: torch.Tensor = layer(h, h[..., :16])
            assert torch.equal(compiled(h, h[..., :16]), expected)
        return expected

    seen = [check()]
    for adapter in adapters.values():
        attach_adapter(model, adapter)
        seen.append(check())
    for active in (None, "first"):
        set_active(model, active)
        seen.append(check())
    detach(model, "first")
    seen.append(check())
    bare, first, third, *rest = seen
    assert not torch.equal(first, third)
    for one, expected in zip(rest, (bare, first, bare), strict=True):
        assert torch.equal(one, expected)


def test_a_replaced_bias_is_in_no_sketch() -> None:
    """Sketches are of the backbone: an adapter's own bias, or another one's, must not be taken for it."""
    name = "encoder.layer.1.output.dense.bias"
    adapter = get_adapter(alone("second")).to_adapter()
    config = replace(adapter.config, overrides=(Override(name=name, kind=OverrideKind.BIAS),))
    bias = np.full(16, 0.5, dtype=np.float32)
    adapter = replace(adapter, config=config, tensors={**adapter.tensors, f"override.{name}": bias})
    model = tiny_model("bert")
    attached = attach_adapter(model, adapter)
    attached.load(attached.to_adapter())
    np.testing.assert_array_equal(model.bert.get_parameter(name).detach().numpy(), bias)
    attach_adapter(tiny_model("bert"), attached.to_adapter())
    first = get_adapter(alone("first")).to_adapter()
    attach_adapter(model, first)
    set_active(model, "second")
    attach_adapter(model, first, name="again")
    set_active(model, "second")
    attach_trained(model, config_of(model, "third"))
    attach_adapter(tiny_model("bert"), get_adapter(model, "third").to_adapter())


def test_errors(tmp_path: Path) -> None:
    model, inputs = together(), tiny_inputs()
    expected = logits(model, inputs)
    config = config_of(model, "first")
    stranger = get_adapter(alone("first", "roberta")).to_adapter()
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"model_type": "mine", "like": "bert"}), encoding="utf-8")
    cases: list[tuple[ErrorCode, Callable[[], object]]] = [
        (ErrorCode.E804, lambda: attach(model, config)),
        (ErrorCode.E804, lambda: attach(model, replace(config, name="other"), name="second")),
        (ErrorCode.E804, lambda: attach_adapter(model, get_adapter(model, "first").to_adapter())),
        (ErrorCode.E804, lambda: set_active(model, "fourth")),
        (ErrorCode.E804, lambda: get_adapter(model, "fourth")),
        (ErrorCode.E804, lambda: detach(model, "fourth")),
        (ErrorCode.E804, lambda: save_pretrained(model, tmp_path, "fourth")),
        (ErrorCode.E804, lambda: set_active(tiny_model("bert"), None)),
        (ErrorCode.E001, lambda: attach(model, config, name="train")),
        (ErrorCode.E001, lambda: attach(model, config, name="a.b")),
        (ErrorCode.E401, lambda: attach_adapter(model, stranger, name="fourth")),
        (ErrorCode.E403, lambda: attach_adapter(model, _stale(), name="fourth")),
        (ErrorCode.E803, lambda: attach(model, config, name="fourth", binding=read_binding(path))),
    ]
    for code, action in cases:
        with pytest.raises(CompacterError) as error:
            action()
        assert error.value.code is code
        assert adapter_names(model) == tuple(METHODS)
        assert torch.equal(logits(model, inputs), expected)
        assert all(parameter.requires_grad for parameter in get_adapter(model).parameters())
    set_active(model, None)
    with pytest.raises(CompacterError) as error:
        get_adapter(model)
    assert error.value.code is ErrorCode.E804


def _stale() -> Any:
    model = tiny_model("bert", seed=1)
    return attach_trained(model, config_of(model, "first")).to_adapter()
