"""DeepSpeed's ZeRO-3 on two processes against one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from compacter_core.format.reader import load_adapter
from compacter_core.format.writer import adapter_bytes
from compacter_core.pytorch import get_adapter
from tests.distributed.course import ALL_PARTS, accumulate, build, gradients
from tests.distributed.launch import torchrun
from tests.pytorch.helpers import logits
from tests.support.models import tiny_inputs

pytest.importorskip("deepspeed")

ADAPTER = "adapter_model.safetensors"
LEARNING_RATE = 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("zero3")
    torchrun("tests.distributed.zero3_worker", str(target), DS_ACCELERATOR="cpu")
    return target


def load(folder: Path, dtype: str, rank: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / f"{dtype}-{rank}.pt")
    return found


def test_gradients(folder: Path) -> None:
    """ZeRO-3 sums gradients in float32: each part is rounded once, and so is their sum, by u (|g1| + |g2|) in all."""
    parts = []
    for part in ALL_PARTS:
        model = build(torch.float64)
        accumulate(model, (part,))
        parts.append(gradients(model))
    for rank in ALL_PARTS:
        got = load(folder, "float64", rank)["gradients"]
        assert set(got) == set(parts[0])
        for name, gradient in got.items():
            first, second = (one[name] for one in parts)
            bound = 2.0**-24 * (first.abs() + second.abs()).max()
            assert (gradient.double() - (first + second) / 2).abs().max() <= bound, name


def test_the_file_has_what_the_step_gave(folder: Path) -> None:
    """Whole tensors, bit for bit the difference of value and gradient, and the shared rule once."""
    seen, model = load(folder, "float32")["gradients"], build(torch.float64).float()
    adapter = load_adapter(folder / "float32" / "0" / "stepped")
    attached = get_adapter(model)
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    everything = {**attached.tensor_parameters(), **attached.replaced_parameters()}
    assert set(adapter.tensors) == set(everything)
    for name, parameter in everything.items():
        expected = parameter.detach() - LEARNING_RATE * seen[named[id(parameter)]]
        assert torch.equal(torch.from_numpy(adapter.tensors[name]), expected), name


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_written_once_and_loaded_whole(dtype: str, folder: Path) -> None:
    model = build(torch.float64).to(getattr(torch, dtype))
    assert (folder / dtype / "0" / "before" / ADAPTER).read_bytes() == adapter_bytes(get_adapter(model).to_adapter())
    assert not (folder / dtype / "1").exists()
    if dtype == "float64":
        with torch.no_grad():
            expected = logits(model, tiny_inputs())
        # Parameters went through ZeRO-3's float32; the reference for its effect is a model in float32.
        scale = (logits(model.float(), tiny_inputs()) - expected).abs().max()
        assert (load(folder, dtype)["logits"] - expected).abs().max() <= scale
