"""Every bound architecture: its binding says the truth, and every method in it computes what the reference does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from compacter_core.config import ATTACH_PRESETS
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.methods import Method
from compacter_core.pytorch import (
    attach,
    describe_backbone,
    detach,
    from_pretrained,
    known_model_types,
    read_binding,
    save_pretrained,
)
from compacter_core.vocabulary import ScalingKind
from tests.pytorch.helpers import attach_trained, backward, tiny_adapter_config
from tests.support.backbones import BACKBONES, HIDDEN, backbone_inputs, run, tiny_backbone
from tests.support.models import TINY_METHODS
from tests.support.sublayers import Watch, check_bare, check_sublayer

all_backbones = pytest.mark.parametrize("model_type", BACKBONES)


def test_all_bindings_are_tested() -> None:
    assert set(known_model_types()) == set(BACKBONES)


@all_backbones
def test_binding_names_what_carries_r_and_h(model_type: str) -> None:
    """Without an adapter: every sublayer's result is N(r + h), and every site's linear is there."""
    model = tiny_backbone(model_type)
    watch = Watch(model)
    with torch.no_grad():
        run(model, backbone_inputs(model))
    backbone = describe_backbone(model)
    assert backbone.hidden_size == HIDDEN
    names = set(model.state_dict())
    for site_id, modules in backbone.modules.items():
        assert f"{modules.linear}.weight" in names
        check_bare(watch, site_id)


@all_backbones
def test_norms_are_all_of_them_in_execution_order(model_type: str) -> None:
    """Each once, in the order of its first use; those inside an attention (of queries and keys) are no sublayer's."""
    model = tiny_backbone(model_type)
    executed: list[str] = []
    for name, module in model.named_modules():
        if type(module).__name__.endswith("Norm") and not name.endswith(("q_norm", "k_norm")):
            module.register_forward_hook(lambda *_, name=name: executed.append(name))
    with torch.no_grad():
        run(model, backbone_inputs(model))
    assert list(dict.fromkeys(executed)) == list(describe_backbone(model).norms)


@pytest.mark.spec("PLC-2", "PLC-3", "PLC-8")
@pytest.mark.parametrize("method", TINY_METHODS)
@all_backbones
def test_methods(model_type: str, method: Method) -> None:
    _check_all_sites(model_type, method=method)


@pytest.mark.spec("PLC-2", "PLC-3", "PLC-8")
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
@all_backbones
def test_placements(model_type: str, preset: str) -> None:
    _check_all_sites(model_type, attach=ATTACH_PRESETS[preset], scaling=ScalingKind.CHANNEL)


def _check_all_sites(model_type: str, **options: Any) -> None:
    model = tiny_backbone(model_type)
    watch = Watch(model)
    attached = attach_trained(model, tiny_adapter_config(model, **options))
    with torch.no_grad():
        run(model, backbone_inputs(model))
    for site in attached.config.sites:
        check_sublayer(attached, watch, site.id)


@pytest.mark.parametrize("preset", ATTACH_PRESETS)
@all_backbones
def test_detach_save_and_load(model_type: str, preset: str, tmp_path: Path) -> None:
    """Detaching restores every output bit; a saved adapter works in a fresh copy of the backbone."""
    model, twin = tiny_backbone(model_type), tiny_backbone(model_type)
    inputs = backbone_inputs(model)
    with torch.no_grad():
        bare = run(model, inputs)
        attach_trained(model, tiny_adapter_config(model, attach=ATTACH_PRESETS[preset]))
        assert not torch.equal(run(model, inputs), bare)
        save_pretrained(model, tmp_path)
        watch = Watch(twin)
        attached = from_pretrained(twin, tmp_path)
        run(twin, inputs)
    ours = model.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in twin.state_dict().items())
    for site in attached.config.sites:
        check_sublayer(attached, watch, site.id)
    detach(model)
    with torch.no_grad():
        assert torch.equal(run(model, inputs), bare)


@all_backbones
def test_other_weights_are_refused(model_type: str, tmp_path: Path) -> None:
    model = tiny_backbone(model_type)
    attach_trained(model)
    save_pretrained(model, tmp_path)
    with pytest.raises(CompacterError) as error:
        from_pretrained(tiny_backbone(model_type, seed=1), tmp_path)
    assert error.value.code is ErrorCode.E403


@pytest.mark.parametrize("bias", [None, 0.0, 1.0])
def test_an_absent_bias_counts_as_zeros(bias: float | None, tmp_path: Path) -> None:
    """An adapter made for a linear with a bias fits one without only if that bias was zero."""
    model, twin = tiny_backbone("bert"), tiny_backbone("bert")
    for one, value in ((model, bias), (twin, None)):
        for layer in one.encoder.layer:
            for linear in (layer.attention.output.dense, layer.output.dense):
                linear.bias = None if value is None else torch.nn.Parameter(torch.full_like(linear.bias, value))
    attach_trained(model)
    save_pretrained(model, tmp_path)
    if bias:
        with pytest.raises(CompacterError) as error:
            from_pretrained(twin, tmp_path)
        assert error.value.code is ErrorCode.E403
    else:
        from_pretrained(twin, tmp_path)


@pytest.mark.parametrize("reentrant", [False, True], ids=["plain", "reentrant"])
@pytest.mark.parametrize("model_type", sorted(set(BACKBONES) - {"albert"}))  # which transformers does not checkpoint
def test_gradient_checkpointing(model_type: str, reentrant: bool) -> None:
    """Every tensor gets the gradient that it has without checkpointing, with nothing else training.

    Checkpointing may take sums in another order. The scale for such a difference is what single precision would do to
    the same gradient: in double precision it has to stay below that.
    """
    model = tiny_backbone(model_type)
    attached = attach_trained(model, train_norms=False)
    model.train()
    _without_dropout(model)
    single = _gradients(model.float(), attached)
    wanted = _gradients(model.double(), attached)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    got = _gradients(model, attached)
    assert wanted.keys() == got.keys() == set(attached.state_dict())
    for name, gradient in wanted.items():
        assert (got[name] - gradient).abs().max() < (single[name] - gradient).abs().max(), name


def _without_dropout(model: Any) -> None:
    """Off in the modules and in what functional dropout reads: the layers are run twice and have to agree."""
    for module in model.modules():
        for name in ("p", "dropout", "attention_dropout", "activation_dropout", "layerdrop", "dropout_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _gradients(model: Any, attached: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Of the sum of squares of each stack's output."""
    dtype = next(model.parameters()).dtype
    inputs = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in backbone_inputs(model).items()
    }
    calls = [(model, inputs)]
    if model.config.is_encoder_decoder:
        tokens = inputs.pop("decoder_input_ids")
        encoder = model.get_encoder()
        with torch.no_grad():
            states = encoder(**inputs)
        calls = [(encoder, inputs), (model, {"encoder_outputs": states, "decoder_input_ids": tokens})]
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False
    model.zero_grad()
    for part, arguments in calls:
        backward(part(**arguments)[0].square().sum())
    return {name: p.grad.clone() for name, p in attached.named_parameters() if p.grad is not None}


def test_binding_of_ones_own(tmp_path: Path) -> None:
    """An architecture without a binding is reached by module patterns, from a file of the same form."""
    model = tiny_backbone("bert")
    model.config.model_type = "mine"
    with pytest.raises(CompacterError) as error:
        describe_backbone(model)
    assert error.value.code is ErrorCode.E803
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"model_type": "mine", "like": "bert"}), encoding="utf-8")
    binding = read_binding(path)
    config = tiny_adapter_config(model, binding=binding)
    attach(model, config, binding=binding)
    save_pretrained(model, tmp_path / "adapter")
    twin = tiny_backbone("bert")
    twin.config.model_type = "mine"
    from_pretrained(twin, tmp_path / "adapter", binding=binding)
    inputs = backbone_inputs(model)
    with torch.no_grad():
        assert torch.equal(run(twin, inputs), run(model, inputs))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", ErrorCode.E803),
        ("[]", ErrorCode.E803),
        ('{"model_type": "mine"}', ErrorCode.E803),
        ('{"model_type": "mine", "norm_style": "middle", "layouts": []}', ErrorCode.E803),
        ('{"model_type": "mine", "norm_style": "pre", "layouts": [{"encoder": {"layers": "x.*"}}]}', ErrorCode.E803),
        (None, ErrorCode.E005),
    ],
)
def test_bad_bindings_are_refused(text: str | None, code: ErrorCode, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(CompacterError) as error:
        read_binding(path)
    assert error.value.code is code
