"""The attached model compiles without graph breaks, exports, and trains under gradient checkpointing."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from compacter_core.config import ATTACH_PRESETS
from compacter_core.methods import Method
from tests.pytorch.helpers import attach_trained, backward, logits, tiny_adapter_config
from tests.support.models import MODEL_TYPES, tiny_inputs, tiny_model

# What is traced runs the plain operations.
pytestmark = pytest.mark.usefixtures("plain_operations")

# Every architecture, every placement and every kind of projection at least once; tracing is slow.
CASES = [
    ("bert", Method.COMPACTER, "houlsby"),
    ("roberta", Method.PHM_ADAPTER, "pfeiffer"),
    ("distilbert", Method.LOW_RANK, "parallel"),
    ("bert", Method.ADAPTER, "adapter_plus"),
]


@pytest.mark.parametrize(("model_type", "method", "preset"), CASES)
def test_compile_fullgraph(model_type: str, method: Method, preset: str) -> None:
    """Values and gradients of the compiled model, forward and backward captured as graphs."""
    torch._dynamo.reset()
    model, inputs = tiny_model(model_type, layers=1), tiny_inputs()
    attached = attach_trained(model, tiny_adapter_config(model, method, attach=ATTACH_PRESETS[preset]))
    expected = logits(model, inputs)
    backward(expected.sum())
    gradients = {name: p.grad.clone() for name, p in attached.tensor_parameters().items() if p.grad is not None}
    model.zero_grad()
    compiled: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    got = compiled(**inputs)[0]
    backward(got.sum())
    assert torch.equal(got, expected)
    for name, parameter in attached.tensor_parameters().items():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradients[name]), name
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.mul_(2)
    assert torch.equal(compiled(**inputs)[0], logits(model, inputs)), "parameters are not baked in"


@pytest.mark.parametrize(
    ("model_type", "method", "preset", "materialised"),
    [(*case, False) for case in CASES] + [("bert", Method.COMPACTER, "houlsby", True)],
)
def test_export(model_type: str, method: Method, preset: str, materialised: bool) -> None:
    """Exports with dynamic batch and length; the program gives the same for other sizes."""
    model, inputs = tiny_model(model_type, layers=1), tiny_inputs()
    attached = attach_trained(model, tiny_adapter_config(model, method, attach=ATTACH_PRESETS[preset]))
    axes = {0: torch.export.Dim("batch", max=64), 1: torch.export.Dim("length", max=30)}
    shapes = dict.fromkeys(inputs, axes)

    other = tiny_inputs(batch=5, length=9, seed=1)
    with attached.materialise() if materialised else nullcontext():
        program = torch.export.export(model, (), inputs, dynamic_shapes=shapes, strict=False)
        expected = logits(model, other)
    assert torch.equal(program.module()(**other)[0], expected)
    names = {name for name, _ in program.named_parameters()}
    assert names == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("train_norms", [True, False])
@pytest.mark.parametrize("preset", ATTACH_PRESETS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_gradient_checkpointing(model_type: str, preset: str, train_norms: bool, reentrant: bool) -> None:
    """The same gradients, bit for bit, also where nothing before the first layer trains."""
    model, inputs = tiny_model(model_type).train(), tiny_inputs()
    # A method without shared tensors, whose gradients would be summed in another order.
    config = tiny_adapter_config(model, Method.PHM_ADAPTER, attach=ATTACH_PRESETS[preset])
    attached = attach_trained(model, config, train_norms=train_norms)

    def gradients() -> list[torch.Tensor | None]:
        model.zero_grad()
        backward(logits(model, inputs).square().sum())
        return [None if p.grad is None else p.grad.clone() for p in attached.trainable_parameters()]

    expected = gradients()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    got = gradients()
    for one, other in zip(got, expected, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
