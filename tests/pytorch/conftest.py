"""Small tensors run fastest on one thread, and several test processes may share the machine."""

from collections.abc import Iterator

import pytest
import torch

from compacter_core.pytorch import fused

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def plain_operations() -> Iterator[None]:
    """No kernels: for comparing bits with what runs none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "kernels_for", lambda x: None)
        yield


@pytest.fixture(scope="module", params=["kernels", "plain operations"])
def arithmetic(request: pytest.FixtureRequest) -> str:
    """Each test once with the kernels of this machine and once without."""
    way: str = request.param
    if way != "kernels":
        request.getfixturevalue("plain_operations")
    return way
