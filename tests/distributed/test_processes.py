"""Two processes against one, bit for bit: gradients, files, outputs, and the backbone after detaching."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.sharding import shard
from tests.distributed.course import ALL_PARTS, ROWS, accumulate, batch, build, gradients, run
from tests.distributed.launch import PROCESSES, torchrun
from tests.distributed.worker import CASES
from tests.pytorch.helpers import backward

FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("processes")
    torchrun("tests.distributed.worker", str(target))
    return target


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one process sees, and the folder with its files, by data type."""

    @cache
    def result(dtype: torch.dtype) -> tuple[dict[str, Any], Path]:
        target = tmp_path_factory.mktemp("alone")
        return run(build(dtype), lambda model: model, ALL_PARTS, target), target

    return result


@pytest.mark.parametrize("rank", range(PROCESSES))
@pytest.mark.parametrize("case", CASES)
def test_everything_is_as_in_one_process(case: str, rank: int, folder: Path, alone: Any) -> None:
    expected, _ = alone(CASES[case][1])
    got = torch.load(folder / f"{case}-{rank}.pt")
    assert set(got) == set(expected)
    for what, value in expected.items():
        if isinstance(value, dict):
            assert set(got[what]) == set(value), what
            for name, tensor in value.items():
                assert torch.equal(got[what][name], tensor), (what, name)
        else:
            assert torch.equal(got[what], value), what
    assert any("shared.phm_rule" in name for name in got["first"])
    assert all(torch.equal(value, got["backbone"][name]) for name, value in _backbone(CASES[case][1]).items())


def _backbone(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return dict(build(dtype, bare=True).named_parameters())


@pytest.mark.parametrize("case", CASES)
def test_files_are_those_of_one_process_and_written_once(case: str, folder: Path, alone: Any) -> None:
    _, expected = alone(CASES[case][1])
    for adapter in ("first", "second", "halved"):
        for name in FILES:
            got = (folder / case / "0" / adapter / name).read_bytes()
            assert got == (expected / adapter / name).read_bytes(), (adapter, name)
    assert not (folder / case / "1").exists()


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][1] is torch.float64])
def test_gradients_are_those_of_the_whole_batch(case: str, folder: Path) -> None:
    """In one pass over all rows, sums are taken in another order.

    The scale for such a difference is what single precision would do to the same gradient: in double precision it has
    to stay below that.
    """
    parts = [batch(part) for part in ALL_PARTS]
    whole_batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    assert len(whole_batch["labels"]) == ROWS * PROCESSES
    found = {}
    for dtype in (torch.float32, torch.float64):
        model = build(torch.float64).to(dtype)
        backward(model(**whole_batch).loss)
        found[dtype] = gradients(model)
    got = torch.load(folder / f"{case}-0.pt")["second"]
    assert set(got) == set(found[torch.float64])
    for name, gradient in found[torch.float64].items():
        scale = (found[torch.float32][name] - gradient).abs().max()
        assert (got[name] - gradient).abs().max() < scale, name


def test_the_course_can_tell_processes_apart() -> None:
    """Each part has a gradient of its own, and the mean is not one of them."""
    found = []
    for parts in ((0,), (1,), ALL_PARTS):
        model = build(torch.float64)
        accumulate(model, parts)
        found.append(gradients(model))
    for name in found[0]:
        assert not torch.equal(found[0][name], found[1][name]), name
        assert not torch.equal(found[0][name], found[2][name]), name


def test_a_model_without_adapters_is_not_sharded() -> None:
    with pytest.raises(CompacterError) as error:
        shard(build(torch.float64, bare=True))
    assert error.value.code is ErrorCode.E804
