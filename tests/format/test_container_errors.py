"""E101 to E112: one rejection, one code, one invalid file."""

import json
import pickle
import struct
import zipfile
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_core.adapter import DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.container import MAX_HEADER, MAX_TENSORS, TensorInfo, header_bytes, parse_header
from compacter_core.format.reader import parse_adapter
from compacter_core.format.writer import adapter_bytes
from tests.format.builders import join, make_adapter, rejected, split

GOOD = adapter_bytes(make_adapter())


def entry(shape: Any = (2,), dtype: Any = "F32", offsets: Any = (0, 8), **extra: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **extra}


@pytest.mark.spec("FMT-14")
def test_a_minimal_file_passes() -> None:
    header = parse_header(join({"site.a": entry(), "b": entry(offsets=(8, 16))}, bytes(16)))
    assert header.entries["site.a"].info == TensorInfo(DType.F32, (2,))
    assert (header.entries["b"].begin, header.entries["b"].end) == (8, 16)
    assert header.metadata == {}


def test_metadata_is_written_in_order_of_its_keys() -> None:
    assert header_bytes({"b": "1", "a": "2"}, []) == header_bytes({"a": "2", "b": "1"}, [])
    assert b'{"a":"2","b":"1"}' in header_bytes({"b": "1", "a": "2"}, [])


@pytest.mark.spec("FMT-3", "FMT-11")
def test_padding_after_the_header_passes() -> None:
    assert parse_header(join('{"a":{"dtype":"F16","shape":[],"data_offsets":[0,2]}}   ', b"xx")).entries["a"].end == 2


@pytest.mark.spec("FMT-1")
def test_e101_truncated_at_every_byte() -> None:
    for cut in range(len(GOOD)):
        with rejected(ErrorCode.E101):
            parse_adapter(GOOD[:cut])


@pytest.mark.spec("FMT-1", "SEC-1")
def test_e101_the_header_tells_that_tensors_are_cut() -> None:
    """Before any of them is read."""
    data = join({"a": entry()}, bytes(8))
    for missing in range(1, 9):
        with rejected(ErrorCode.E101):
            parse_header(data, size=len(data) - missing)


@pytest.mark.spec("FMT-1")
def test_e101_length_field_beyond_the_file() -> None:
    with rejected(ErrorCode.E101):
        parse_header(join({}, b"", length=1000))


@pytest.mark.spec("FMT-2", "SEC-1")
def test_e102_header_over_the_limit_is_refused_before_it_is_read() -> None:
    with rejected(ErrorCode.E102):
        parse_header(struct.pack("<Q", MAX_HEADER + 1), size=2**62)


@pytest.mark.spec("FMT-2")
def test_e102_is_not_raised_at_the_limit() -> None:
    with rejected(ErrorCode.E101):
        parse_header(struct.pack("<Q", MAX_HEADER), size=MAX_HEADER)


@pytest.mark.spec("FMT-33")
def test_e102_is_raised_when_writing_too() -> None:
    with rejected(ErrorCode.E102):
        header_bytes({"note": "x" * MAX_HEADER}, [])


@pytest.mark.spec("FMT-3", "FMT-4", "FMT-6", "SEC-2")
@pytest.mark.parametrize(
    "header",
    [
        b"\xff{}",
        b"{\xff}",
        "[]",
        "",
        "{",
        '{"a":}',
        ' {"a":1}',
        "\ufeff{}",
        '{"__metadata__":[]}',
        '{"__metadata__":{"a":1}}',
        "{" + '"a":[' * 100_000,
        '{"a":' + "[" * 17 + "]" * 17 + "}",
        '{"a":NaN}',
        '{"a":' + "9" * 5000 + "}",
        '{"' + '\\"' * 100_000,
    ],
    ids=lambda text: repr(text[:24]),
)
def test_e103_header_is_no_json_object(header: str | bytes) -> None:
    with rejected(ErrorCode.E103):
        parse_header(join(header))


@pytest.mark.spec("FMT-5")
@pytest.mark.parametrize(
    "header",
    [
        '{"a":{"dtype":"F16","shape":[],"data_offsets":[0,2]},"a":{"dtype":"F16","shape":[],"data_offsets":[0,2]}}',
        '{"__metadata__":{"k":"1","k":"2"}}',
        '{"__metadata__":{},"__metadata__":{}}',
        '{"a":{"dtype":"F16","dtype":"F16","shape":[],"data_offsets":[0,2]}}',
        '{"\\u0061":{"dtype":"F16","shape":[],"data_offsets":[0,2]},"a":{"dtype":"F16","shape":[],"data_offsets":[0,2]}}',
    ],
)
def test_e104_duplicate_key_at_any_level(header: str) -> None:
    with rejected(ErrorCode.E104):
        parse_header(join(header, b"xx"))


@pytest.mark.spec("FMT-14")
@pytest.mark.parametrize(
    ("first", "second", "size"),
    [
        pytest.param((0, 8), (4, 12), 12, id="overlap"),
        pytest.param((0, 8), (0, 8), 8, id="same bytes"),
        pytest.param((0, 8), (12, 20), 20, id="gap"),
        pytest.param((4, 12), (12, 20), 20, id="gap at the start"),
        pytest.param((0, 8), (8, 16), 20, id="uncovered bytes at the end"),
    ],
)
def test_e105_tensors_do_not_tile_the_file(first: tuple[int, int], second: tuple[int, int], size: int) -> None:
    with rejected(ErrorCode.E105):
        parse_header(join({"a": entry(offsets=first), "b": entry(offsets=second)}, bytes(size)))


@pytest.mark.spec("FMT-12")
@pytest.mark.parametrize("offsets", [[0], [0, 8, 8], [8, 0], [-8, 0], [0.0, 8.0], [False, 8], "0,8", None, {}])
def test_e105_malformed_offsets(offsets: Any) -> None:
    with rejected(ErrorCode.E105):
        parse_header(join({"a": entry(offsets=offsets)}, bytes(8)))


@pytest.mark.spec("FMT-13", "SEC-4")
@pytest.mark.parametrize(
    ("shape", "end"),
    [
        ((2,), 4),
        ((2,), 16),
        ((), 8),
        pytest.param((2**31 - 1,) * 4, 8, id="size of 126 bits"),
        pytest.param((2**16, 2**16, 2**16, 2**14), 0, id="size that is 0 modulo 2^64"),
    ],
)
def test_e106_bytes_do_not_match_the_shape(shape: tuple[int, ...], end: int) -> None:
    with rejected(ErrorCode.E106):
        parse_header(join({"a": entry(shape=shape, offsets=(0, end))}, bytes(8)))


@pytest.mark.spec("FMT-11")
@pytest.mark.parametrize("shape", [[1] * 5, [0], [2, 0], [-1], [2**31], [1.0], [True], ["2"], "2", None, {}, 2])
def test_e107_rank_or_dimension(shape: Any) -> None:
    with rejected(ErrorCode.E107):
        parse_header(join({"a": entry(shape=shape)}, bytes(8)))


@pytest.mark.spec("FMT-33")
def test_e107_is_raised_when_writing_too() -> None:
    with rejected(ErrorCode.E107):
        header_bytes({}, [("a", TensorInfo(DType.F32, (0,)))])


@pytest.mark.spec("FMT-7", "FMT-33")
def test_e108_too_many_tensors() -> None:
    names = [f"t{i}" for i in range(MAX_TENSORS + 1)]
    body = bytes(2 * len(names))
    with rejected(ErrorCode.E108):
        parse_header(join({name: entry((), "F16", (2 * i, 2 * i + 2)) for i, name in enumerate(names)}, body))
    with rejected(ErrorCode.E108):
        header_bytes({}, ((name, TensorInfo(DType.F16, (1,))) for name in names))


@pytest.mark.spec("FMT-7")
def test_e108_name_too_long() -> None:
    assert parse_header(join({"n" * 512: entry()}, bytes(8)))
    with rejected(ErrorCode.E108):
        parse_header(join({"n" * 513: entry()}, bytes(8)))


@pytest.mark.spec("FMT-8", "SEC-6")
@pytest.mark.parametrize(
    "name", ["", ".", "a.", ".a", "a..b", "a b", "a/b", "ä", "a\n", "a\x00", "../a", "\ud800", "a\u0663"]
)
def test_e109_name_outside_the_grammar(name: str) -> None:
    with rejected(ErrorCode.E109):
        parse_header(join({name: entry()}, bytes(8)))
    with rejected(ErrorCode.E109):
        header_bytes({}, [(name, TensorInfo(DType.F32, (1,)))])


@pytest.mark.spec("FMT-10")
@pytest.mark.parametrize("dtype", ["I64", "BOOL", "F8_E4M3", "f32", "", 32, None, ["F32"], {}])
def test_e110_dtype(dtype: Any) -> None:
    with rejected(ErrorCode.E110):
        parse_header(join({"a": entry(dtype=dtype)}, bytes(8)))


@pytest.mark.spec("FMT-9")
@pytest.mark.parametrize("value", [entry(strides=[1]), {"dtype": "F32", "shape": [2]}, {}, [], None, "F32"])
def test_e111_entry_fields(value: Any) -> None:
    with rejected(ErrorCode.E111):
        parse_header(join({"a": value}, bytes(8)))


@pytest.mark.spec("FMT-15", "SEC-5")
def test_e112_pickle() -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        with rejected(ErrorCode.E112):
            parse_adapter(pickle.dumps({"weight": list(range(100))}, protocol=protocol))


@pytest.mark.spec("FMT-15", "SEC-5")
def test_e112_zip_as_torch_save_writes() -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    with rejected(ErrorCode.E112):
        parse_adapter(buffer.getvalue())


@pytest.mark.spec("FMT-15")
def test_e112_spares_a_header_length_that_looks_like_a_pickle() -> None:
    length = int.from_bytes(b"\x80\x02", "little")
    text = json.dumps({"a": entry()}).ljust(length)
    assert parse_header(join(text, bytes(8))).data_start == 8 + length


@pytest.mark.spec("SEC-7")
@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_compacter_errors(data: bytes) -> None:
    with pytest.raises(CompacterError):
        parse_adapter(data)


@pytest.mark.spec("SEC-7")
@settings(max_examples=400)
@given(st.data())
def test_a_corrupted_file_is_rejected_or_read_as_something_valid(data: st.DataObject) -> None:
    """A few bytes of the header region change: nothing but a `CompacterError` may come out, or a writable adapter."""
    changed = bytearray(GOOD)
    header_end = 8 + int.from_bytes(GOOD[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, header_end - 1))] = data.draw(st.integers(0, 255))
    try:
        adapter = parse_adapter(bytes(changed))
    except CompacterError:
        return
    assert parse_adapter(adapter_bytes(adapter)).config == adapter.config


@pytest.mark.spec("SEC-7")
@given(st.data())
def test_a_header_with_a_changed_value_is_rejected_or_read(data: st.DataObject) -> None:
    """Whole JSON values of the header are replaced by others."""
    header, body = split(GOOD)
    name = data.draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
    field = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
    scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=5)
    header[name][field] = data.draw(st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=5))
    try:
        parse_adapter(join(header, body))
    except CompacterError:
        return
    assert header == split(GOOD)[0]


def test_every_flipped_bit_of_a_tensor_changes_the_digest_or_is_rejected() -> None:
    """Values carry no checksum of their own: the digest of the file is what tells them apart."""
    reference = make_adapter()
    name = "head.classifier.bias"
    start = GOOD.find(np.asarray(reference.tensors[name]).tobytes())
    assert start > 0
    for bit in range(32):
        changed = bytearray(GOOD)
        changed[start + bit // 8] ^= 1 << bit % 8
        try:
            adapter = parse_adapter(bytes(changed))
        except CompacterError as error:
            assert error.code is ErrorCode.E306
        else:
            assert adapter_bytes(adapter) == bytes(changed) != GOOD
