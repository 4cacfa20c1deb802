"""What is written is read back bit for bit, and one adapter has one sequence of bytes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings

from compacter_core.adapter import Adapter, Array, DType
from compacter_core.config import AdapterConfig
from compacter_core.errors import ErrorCode
from compacter_core.format.config_json import config_from_json, config_to_json
from compacter_core.format.reader import load_adapter, load_with_bytes, parse_adapter
from compacter_core.format.writer import adapter_bytes, digest, save_adapter, save_profile
from tests.format.builders import RawFile, make_adapter, rejected, split, with_config
from tests.format.strategies import adapters, configs

SLOW = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)


def bits(arrays: dict[str, Array]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """What two equal mappings of arrays have in common, -0.0 and 0.0 told apart."""
    return {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in arrays.items()}


def same(one: Adapter, other: Adapter) -> bool:
    return (
        one.config == other.config
        and one.dtype is other.dtype
        and bits(dict(one.tensors)) == bits(dict(other.tensors))
        and bits(dict(one.sketches)) == bits(dict(other.sketches))
    )


@SLOW
@given(adapters())
def test_read_gives_back_what_was_written(adapter: Adapter) -> None:
    data = adapter_bytes(adapter)
    again = parse_adapter(data)
    assert same(again, adapter)
    assert adapter_bytes(again) == data


@pytest.mark.spec("CFG-5")
@SLOW
@given(configs())
def test_configuration_round_trip(config: AdapterConfig) -> None:
    text = config_to_json(config)
    again = config_from_json(text)
    assert again == config
    assert config_to_json(again) == text


@pytest.mark.spec("FMT-27", "FMT-28")
@pytest.mark.parametrize("dtype", DType)
def test_equal_adapters_give_equal_bytes(dtype: DType) -> None:
    adapter = make_adapter(dtype=dtype)
    shuffled = [*adapter.tensors.items()][::-1]
    strided = {name: np.asfortranarray(array) for name, array in shuffled}
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in shuffled}
    for tensors in (strided, swapped):
        other = replace(adapter, tensors=tensors, sketches=dict([*adapter.sketches.items()][::-1]))
        assert adapter_bytes(other) == adapter_bytes(adapter)


@pytest.mark.spec("FMT-27", "FMT-28")
@pytest.mark.parametrize("dtype", DType)
def test_canonical_order_and_alignment(dtype: DType) -> None:
    data = adapter_bytes(make_adapter(dtype=dtype))
    header, body = split(data)
    names = [name for name in header if name != "__metadata__"]
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
    assert names == sorted(names, key=lambda name: (-sizes[header[name]["dtype"]], name))
    assert next(iter(header)) == "__metadata__"
    assert (len(data) - len(body)) % 8 == 0
    for name in names:
        assert header[name]["data_offsets"][0] % sizes[header[name]["dtype"]] == 0


def test_canonical_bytes_are_frozen() -> None:
    """A change of this digest is a change of the format: files written before would no longer be canonical."""
    config = with_config(training={"initialiser": "zero"})
    adapter = make_adapter(config)
    ramp = {
        name: np.arange(array.size, dtype=np.float32).reshape(array.shape) for name, array in adapter.tensors.items()
    }
    sketches = {name: np.arange(array.size, dtype=np.float32) for name, array in adapter.sketches.items()}
    assert (
        digest(adapter_bytes(replace(adapter, tensors=ramp, sketches=sketches)))
        == "4f467e8a62349ce7c2e4df2a4cdfa6b431466a8e5c52cdf2762b2e7c0b8fbb04"
    )


def test_the_stock_safetensors_reader_reads_the_same() -> None:
    adapter = make_adapter()
    stock = safetensors.numpy.load(adapter_bytes(adapter))
    assert bits(stock) == bits({**adapter.tensors, **adapter.sketches})


@pytest.mark.parametrize("dtype", DType)
def test_the_stock_safetensors_reader_sees_the_same_types_and_shapes(dtype: DType, tmp_path: Path) -> None:
    adapter = make_adapter(dtype=dtype)
    save_adapter(adapter, tmp_path / "a.safetensors")
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="numpy") as stock:
        assert set(stock.keys()) == {*adapter.tensors, *adapter.sketches}
        assert stock.metadata()["compacter.config"] == config_to_json(adapter.config)
        for name, array in adapter.tensors.items():
            view = stock.get_slice(name)
            assert (view.get_dtype(), tuple(view.get_shape())) == (dtype.value, array.shape)


@pytest.mark.spec("FMT-17", "FMT-34")
def test_a_file_rewritten_by_another_tool_becomes_canonical_again() -> None:
    data = adapter_bytes(make_adapter())
    raw = RawFile.take_apart(data)
    raw.tensors = dict(reversed(raw.tensors.items()))
    raw.metadata["format"] = "pt"
    foreign = raw.put_together()
    assert foreign != data
    assert adapter_bytes(parse_adapter(foreign)) == data
    stock = safetensors.numpy.save(safetensors.numpy.load(data), metadata=dict(raw.metadata))
    assert adapter_bytes(parse_adapter(stock)) == data


def test_read_arrays_are_writable_and_own_their_memory() -> None:
    for array in parse_adapter(adapter_bytes(make_adapter())).tensors.values():
        assert array.flags.writeable
        assert array.flags.aligned


def test_save_and_load(tmp_path: Path) -> None:
    adapter = make_adapter()
    file = tmp_path / "new" / "a.safetensors"
    save_adapter(adapter, file)
    assert file.read_bytes() == adapter_bytes(adapter)
    assert same(load_adapter(file), adapter)
    assert same(load_adapter(str(file)), adapter)
    assert load_with_bytes(file)[1] == file.read_bytes()


@pytest.mark.spec("SEC-13")
def test_e113_another_digest_than_the_expected_one(tmp_path: Path) -> None:
    adapter = make_adapter()
    data = adapter_bytes(adapter)
    save_profile(adapter, tmp_path)
    for path in (tmp_path, tmp_path / "adapter_model.safetensors"):
        assert load_adapter(path, expected_sha256=digest(data)).config == adapter.config
        assert load_adapter(path, expected_sha256=digest(data).upper()).config == adapter.config
        with rejected(ErrorCode.E113):
            load_adapter(path, expected_sha256=digest(data + b" "))


@pytest.mark.spec("FMT-35", "FMT-36")
def test_hub_profile(tmp_path: Path) -> None:
    adapter = make_adapter()
    folder = tmp_path / "profile"
    save_profile(adapter, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert same(load_adapter(folder), adapter)
    (folder / "README.md").write_text("kept")
    save_profile(make_adapter(seed=1), folder)
    assert (folder / "README.md").read_text() == "kept"
    assert same(load_adapter(folder), make_adapter(seed=1))


@pytest.mark.spec("FMT-35")
def test_e206_profile_mismatch(tmp_path: Path) -> None:
    adapter = make_adapter()
    save_profile(adapter, tmp_path)
    file = tmp_path / "adapter_config.json"
    for changes in ({"method": "other"}, {"scaling": 2.0}, {"training": {"seeds": [False, True]}}):
        file.write_text(config_to_json(replace(adapter.config, **changes)))
        with rejected(ErrorCode.E206):
            load_adapter(tmp_path)
    assert load_adapter(tmp_path / "adapter_model.safetensors").config == adapter.config


@pytest.mark.spec("FMT-35")
def test_e206_is_not_raised_for_another_spelling_of_the_same(tmp_path: Path) -> None:
    adapter = make_adapter()
    save_profile(adapter, tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(file.read_text().replace('"scaling":1.0', '"scaling" : 1'))
    assert same(load_adapter(tmp_path), adapter)


@pytest.mark.spec("FMT-35")
def test_a_broken_profile_configuration_has_the_code_of_its_fault(tmp_path: Path) -> None:
    save_profile(make_adapter(), tmp_path)
    file = tmp_path / "adapter_config.json"
    for content, code in ((b"{", ErrorCode.E203), (b"\xff", ErrorCode.E203), (b" " * 2**21, ErrorCode.E202)):
        file.write_bytes(content)
        with rejected(code):
            load_adapter(tmp_path)


def test_e005_unreadable(tmp_path: Path) -> None:
    with rejected(ErrorCode.E005):
        load_adapter(tmp_path / "absent.safetensors")
    with rejected(ErrorCode.E005):
        load_adapter(tmp_path)
    save_profile(make_adapter(), tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    with rejected(ErrorCode.E005):
        load_adapter(tmp_path)


@pytest.mark.spec("FMT-1")
def test_e101_truncated_file_on_disk(tmp_path: Path) -> None:
    data = adapter_bytes(make_adapter())
    file = tmp_path / "a.safetensors"
    for size in (0, 7, 100, len(data) - 1):
        file.write_bytes(data[:size])
        with rejected(ErrorCode.E101):
            load_adapter(file)
