"""Reading foreign checkpoints: every type exactly, nothing read before it is asked for, nothing hostile read at all."""

import os
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from compacter_core.adapter import DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers import pickles
from compacter_core.importers.checkpoint import find_file, read_state
from compacter_core.importers.pickles import require_torch
from tests.importers.checkpoints import Calls, claim_size, compress, pickled, rename_pickle, save_index, save_pickle

FLOATS = {
    torch.float64: DType.F64,
    torch.float32: DType.F32,
    torch.float16: DType.F16,
    torch.bfloat16: DType.BF16,
}
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def numbers(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = 8 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return values > 0 if dtype is torch.bool else values.to(dtype)


def refused(path: Path, code: ErrorCode, *, allow_pickle: bool = True) -> CompacterError:
    with pytest.raises(CompacterError) as caught:
        read_state(path, allow_pickle=allow_pickle)
    assert caught.value.code is code, caught.value
    return caught.value


@given(
    shape=st.lists(st.integers(0, 4), max_size=5).map(tuple),
    dtype=st.sampled_from([*FLOATS, *INTEGERS]),
    seed=st.integers(0, 2**16),
    form=st.sampled_from(["safetensors", "zip", "legacy"]),
)
@settings(max_examples=60, deadline=None)
def test_every_value_comes_back(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, ...], dtype: torch.dtype, seed: int, form: str
) -> None:
    path = tmp_path_factory.mktemp("state") / "anything"
    tensors = {"a.b": numbers(shape, dtype, seed), "second": numbers((3,), torch.float32, seed + 1)}
    if form == "safetensors":
        save_file(tensors, path)
    else:
        save_pickle(path, tensors, legacy=form == "legacy")
    state = read_state(path, allow_pickle=form != "safetensors")
    assert set(state) == set(tensors)
    for key, tensor in tensors.items():
        array = state[key]
        assert array.shape == state.stored(key).shape == tuple(tensor.shape)
        assert torch.equal(torch.from_numpy(np.array(array)).to(torch.float64), tensor.to(torch.float64))
    stored = state.stored("a.b").dtype
    assert stored is FLOATS.get(dtype)
    if stored is not None:
        assert state["a.b"].dtype == stored.memory


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ([torch.float16], DType.F16),
        ([torch.bfloat16, torch.bfloat16], DType.BF16),
        ([torch.bfloat16, torch.float16], DType.F32),
        ([torch.float32, torch.bfloat16], DType.F32),
        ([torch.float16, torch.float64], DType.F64),
    ],
)
def test_common_type_holds_all_values(tmp_path: Path, types: list[torch.dtype], expected: DType) -> None:
    tensors = {str(i): numbers((2,), dtype, i) for i, dtype in enumerate(types)}
    save_file(tensors, tmp_path / "file")
    assert read_state(tmp_path / "file").dtype() is expected


def test_integers_have_no_type_of_the_format(tmp_path: Path) -> None:
    save_file({"ids": torch.arange(3), "w": torch.ones(1)}, tmp_path / "file")
    state = read_state(tmp_path / "file")
    assert state.subset(["w"]).dtype() is DType.F32
    with pytest.raises(CompacterError) as caught:
        state.dtype()
    assert caught.value.code is ErrorCode.E003


@pytest.mark.parametrize("form", ["safetensors", "zip"])
def test_files_are_mapped_and_read_when_asked(tmp_path: Path, form: str) -> None:
    """A value that changes in the file before it is asked for is read as it is then."""
    before, after = (torch.full((64,), value) for value in (1.5, 2.5))
    path = tmp_path / "file"
    if form == "safetensors":
        save_file({"a": before}, path)
    else:
        save_pickle(path, {"a": before})
    state = read_state(path, allow_pickle=True)
    content = path.read_bytes().replace(before.numpy().tobytes(), after.numpy().tobytes())
    with path.open("r+b") as stream:
        stream.write(content)
    assert set(state["a"].tolist()) == {2.5}


@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_need_the_opt_in(tmp_path: Path, legacy: bool) -> None:
    path = save_pickle(tmp_path / "adapter.safetensors", {"a": torch.ones(1)}, legacy=legacy)
    error = refused(path, ErrorCode.E112, allow_pickle=False)
    assert error.remedy is not None
    assert "trust" in error.remedy
    assert "holes" in error.remedy


@pytest.mark.parametrize("looked_through", [True, False])
@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool, looked_through: bool
) -> None:
    """Each of the two defences holds alone: looking through the pickle, and torch's restricted reader."""
    if looked_through:
        monkeypatch.setattr(torch, "load", partial(torch.load, weights_only=False))
    else:
        monkeypatch.setattr(pickles, "_refuse_names", lambda file, is_zip: None)
    trace = tmp_path / "trace"
    path = save_pickle(tmp_path / "file", {"a": torch.ones(1), "b": Calls(os.mkdir, str(trace))}, legacy=legacy)
    torch.load(path, weights_only=False)
    assert trace.is_dir(), "the file is not hostile"
    trace.rmdir()
    refused(path, ErrorCode.E501)
    assert not trace.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_would_let_pass_cannot_fill_the_memory(tmp_path: Path, legacy: bool) -> None:
    path = save_pickle(tmp_path / "file", {"a": Calls(bytearray, 2**20)}, legacy=legacy)
    assert torch.load(path)["a"] == bytearray(2**20), "torch refuses it by now"
    assert "asks for __builtin__ bytearray" in str(refused(path, ErrorCode.E501))


def test_the_pickle_is_looked_through_whatever_its_name(tmp_path: Path) -> None:
    path = rename_pickle(save_pickle(tmp_path / "file", {"a": Calls(bytearray, 2**20)}))
    assert "asks for __builtin__ bytearray" in str(refused(path, ErrorCode.E501))


def test_parameters_are_tensors(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 3)
    path = save_pickle(tmp_path / "file", dict(module.named_parameters()))
    assert set(read_state(path, allow_pickle=True)) == {"weight", "bias"}
    assert set(read_state(save_pickle(path, module.state_dict()), allow_pickle=True)) == {"weight", "bias"}


def test_code_in_a_bare_pickle_does_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "file", tmp_path / "trace"
    path.write_bytes(pickled(Calls(os.mkdir, str(trace))))
    refused(path, ErrorCode.E501)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [[torch.ones(1)], {1: torch.ones(1)}, {"a": {"b": torch.ones(1)}}, {"a": 1.0}, torch.ones(1)],
    ids=["list", "integer key", "nested", "number", "tensor"],
)
def test_anything_but_tensors_by_name_is_refused(tmp_path: Path, content: object) -> None:
    refused(save_pickle(tmp_path / "file", content), ErrorCode.E501)


def test_expanded_tensors_are_refused(tmp_path: Path) -> None:
    refused(save_pickle(tmp_path / "file", {"a": torch.ones(1).expand(2**20, 2**20)}), ErrorCode.E501)


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    refused(save_pickle(tmp_path / "file", {"a": torch.eye(3).to_sparse()}), ErrorCode.E501)


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    refused(save_pickle(tmp_path / "file", {"a": torch.ones(1, dtype=torch.complex64)}), ErrorCode.E003)


@pytest.mark.parametrize("values", [torch.zeros(2**20), torch.randn(2**10, generator=torch.Generator().manual_seed(0))])
def test_compressed_archives_are_refused(tmp_path: Path, values: torch.Tensor) -> None:
    path = save_pickle(tmp_path / "file", {"a": values})
    compress(path)
    assert torch.equal(torch.load(path)["a"], values), "torch would have unpacked it"
    assert "compressed" in str(refused(path, ErrorCode.E501))


def test_archives_that_claim_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    path = claim_size(save_pickle(tmp_path / "file", {"a": torch.zeros(4)}), "data/0", 2**31)
    assert "claims to hold" in str(refused(path, ErrorCode.E501))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80\x02", b"PK\x03\x04", pickled({"a": 1})[:-3], b"not a checkpoint at all", pickle.dumps(bytearray)],
    ids=["empty", "start of a pickle", "start of a zip", "cut", "text", "a class"],
)
def test_rubbish_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    refused(path, ErrorCode.E501)
    refused(path, ErrorCode.E112, allow_pickle=False)


@example(cut=0.0, flips=[(0.986328125, 1)])  # an archive of several disks
@example(cut=0.0, flips=[(0.640625, 220)])  # a text of four gigabytes
@given(cut=st.floats(0, 0.999), flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=3))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_damage_ends_in_a_code_or_in_numbers(
    tmp_path_factory: pytest.TempPathFactory, form: str, cut: float, flips: list[tuple[float, int]]
) -> None:
    path = tmp_path_factory.mktemp("damage") / "file"
    tensors = {"a": torch.ones(3), "b": torch.zeros(2, 2)}
    if form == "safetensors":
        save_file(tensors, path)
    else:
        save_pickle(path, tensors, legacy=form == "legacy")
    data = bytearray(path.read_bytes())
    for place, bits in flips:
        data[int(place * len(data))] ^= bits
    path.write_bytes(data if flips else data[: int(cut * len(data))])
    try:
        state = read_state(path, allow_pickle=True)
    except CompacterError as error:
        assert error.code in (ErrorCode.E501, ErrorCode.E003)
    else:
        assert flips, "a cut file was read"
        for key in state:
            assert state[key].size <= len(data)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", ErrorCode.E005)
    refused(tmp_path, ErrorCode.E005)
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", ErrorCode.E005)


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model-1.safetensors")
    save_pickle(tmp_path / "model-2.bin", {"b": torch.zeros(1)})
    index = save_index(tmp_path / "m.index.json", {"b": "model-2.bin", "a": "model-1.safetensors"})
    state = read_state(index, allow_pickle=True)
    assert {key: state[key].tolist() for key in state} == {"b": [0], "a": [1, 1]}
    refused(index, ErrorCode.E112, allow_pickle=False)


@pytest.mark.parametrize(
    ("places", "code"),
    [
        ({"a": "../secret"}, ErrorCode.E501),
        ({"a": "/etc/passwd"}, ErrorCode.E501),
        ({"a": "..\\secret"}, ErrorCode.E501),
        ({"a": ".."}, ErrorCode.E501),
        ({"a": "m.index.json"}, ErrorCode.E501),
        ({"a": 3}, ErrorCode.E501),
        ({"a": "gone"}, ErrorCode.E005),
        ({"a": "shard", "c": "shard"}, ErrorCode.E301),
        ({}, ErrorCode.E501),
        ({"b": "shard"}, ErrorCode.E501),
    ],
)
def test_bad_indices_are_refused(tmp_path: Path, places: dict[str, str], code: ErrorCode) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": torch.ones(2)}, tmp_path / "secret")
    save_file({"a": torch.ones(2)}, folder / "shard")
    if not places:
        (folder / "m.index.json").write_text("[]")
    else:
        save_index(folder / "m.index.json", places)
    refused(folder / "m.index.json", code)


@pytest.mark.parametrize("version", ["1.13.1", "2.5.0", "2.9.1+cpu", "2.10.0a0"])
def test_old_torch_reads_no_pickles(version: str) -> None:
    with pytest.raises(CompacterError) as caught:
        require_torch(version)
    assert caught.value.code is ErrorCode.E004


@pytest.mark.parametrize("version", ["2.10.0", "2.10.0+cu128", "2.13.0", "3.0"])
def test_new_torch_reads_pickles(version: str) -> None:
    require_torch(version)


def test_the_version_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_pickle(tmp_path / "file", {"a": torch.ones(1)})
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    refused(path, ErrorCode.E004)


def test_files_are_found_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ("model.safetensors", "pytorch_model.bin")
    assert find_file(tmp_path, names) is None
    for name in ("pytorch_model.bin", "model.safetensors.index.json", "model.safetensors"):
        (tmp_path / name).touch()
        assert find_file(tmp_path, names) == tmp_path / name
