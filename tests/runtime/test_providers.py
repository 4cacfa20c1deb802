"""Asked for means used, or an error that says what there is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import onnxruntime
import pytest

from compacter_core.errors import CompacterError, ErrorCode
from compacter_runtime import Session
from compacter_runtime.providers import choose_providers, require_active
from tests.support.served import write_served


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider", "cpuexecutionprovider"])
def test_short_and_full_names_mean_the_same(tmp_path: Path, name: str) -> None:
    assert Session(write_served(tmp_path), providers=[name]).providers == ("CPUExecutionProvider",)


def test_an_absent_provider_is_e701_and_names_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(CompacterError) as caught:
        Session(write_served(tmp_path), providers=["cuda", "cpu"])
    assert caught.value.code is ErrorCode.E701
    assert "expected cpu" in str(caught.value)
    assert "onnxruntime-gpu" in str(caught.value)


def test_cuda_is_taken_where_it_is_and_the_order_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    assert choose_providers(None) == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert choose_providers(["cpu", "tensorrt"]) == ["CPUExecutionProvider", "TensorrtExecutionProvider"]


def test_a_silent_fall_back_is_e701() -> None:
    session = cast("Any", SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"]))
    require_active(session, None)
    require_active(session, ["CPU"])
    with pytest.raises(CompacterError) as caught:
        require_active(session, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert caught.value.code is ErrorCode.E701
