"""Files made to exhaust memory or to hang; and the memory of large honest files.

Every measurement is against the bound in `compacter_core.format.reader`, so an input that costs more is a failure even
if it is refused with the right code.
"""

import json
import struct
from pathlib import Path

import pytest

from compacter_core.adapter import DType
from compacter_core.errors import ErrorCode
from compacter_core.format.config_json import config_from_json
from compacter_core.format.container import MAX_HEADER, parse_header
from compacter_core.format.reader import load_adapter, parse_adapter
from compacter_core.format.writer import adapter_bytes, save_adapter
from tests.format.builders import RawFile, join, make_adapter, rejected
from tests.format.hostile import CONFIGS, HEADERS, Make, metadata, plain
from tests.format.measuring import SECONDS, bound, measure


@pytest.mark.spec("FMT-37")
@pytest.mark.spec("SEC-1", "SEC-2", "SEC-3", "SEC-7", "SEC-8")
@pytest.mark.parametrize(("make", "tensors", "code"), HEADERS.values(), ids=HEADERS)
def test_a_hostile_header_costs_no_more_than_the_bound(
    make: Make, tensors: int, code: ErrorCode, tmp_path: Path
) -> None:
    check_cost(make(), tensors, code, tmp_path)


@pytest.mark.spec("CFG-19")
@pytest.mark.spec("SEC-2", "SEC-7", "SEC-8")
@pytest.mark.parametrize(("make", "tensors", "code"), CONFIGS.values(), ids=CONFIGS)
def test_a_hostile_configuration_costs_no_more_than_the_bound(
    make: Make, tensors: int, code: ErrorCode | None, tmp_path: Path
) -> None:
    check_cost(make(), tensors, code, tmp_path)


@pytest.mark.spec("SEC-8")
@pytest.mark.parametrize("dtype", DType)
def test_a_large_file_is_read_into_its_arrays_and_nowhere_else(dtype: DType, tmp_path: Path) -> None:
    """Most of it is one tensor; the rest of the bound is far smaller than another copy would be."""
    adapter = plain(1, 1024, 4_096, dtype)
    save_adapter(adapter, tmp_path / "file")
    arrays = sum(array.nbytes for array in adapter.tensors.values())
    data = (tmp_path / "file").read_bytes()
    for call in (lambda: load_adapter(tmp_path / "file"), lambda: parse_adapter(data)):
        cost = measure(call)
        assert cost.code is None
        assert cost.peak < arrays + 2**20


@pytest.mark.spec("SEC-8")
def test_a_file_of_many_tensors(tmp_path: Path) -> None:
    data = adapter_bytes(plain(16_000, 1, 1))
    check_cost(data, 64_000, None, tmp_path)


def test_the_measure_sees_what_a_plain_parser_takes() -> None:
    bomb = join('{"a":[' + "[]," * 10**6 + "[]]}")
    assert measure(lambda: json.loads(bomb[8:])).peak > bound(len(bomb), 1)
    assert measure(lambda: (bomb + b"x") * 2).peak < bound(len(bomb), 1)


@pytest.mark.spec("FMT-37")
def test_the_limits_of_the_metadata_and_of_an_entry() -> None:
    def keys(count: int, length: int) -> bytes:
        return metadata({f"{i:0{length}d}": "" for i in range(count)})

    def entry(size: int) -> bytes:
        text = json.dumps({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]})
        return join(f'{{"a":{text}{" " * (size - len(text))}}}', bytes(8))

    assert parse_header(keys(1_024, 512)).metadata == {}
    for count, length in ((1_025, 8), (1, 513)):
        with rejected(ErrorCode.E102):
            parse_header(keys(count, length))
    assert parse_header(entry(16_384)).entries
    with rejected(ErrorCode.E111):
        parse_header(entry(16_385))


@pytest.mark.spec("CFG-19")
def test_the_limit_of_the_values_of_a_configuration() -> None:
    """Commas and opening brackets count, outside strings; a list of n values has n."""
    config = RawFile.take_apart(adapter_bytes(make_adapter())).config | {"training": {"a": []}}
    others = sum(map(json.dumps(config).count, ",[{")) - 1
    for item in (0, "[,{"):
        config["training"] = {"a": [item] * (65_536 - others)}
        assert config_from_json(json.dumps(config)).training == config["training"]
        config["training"]["a"].append(item)
        with rejected(ErrorCode.E202):
            config_from_json(json.dumps(config))


@pytest.mark.spec("SEC-1", "SEC-3")
@pytest.mark.parametrize("claim", [MAX_HEADER, MAX_HEADER + 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_claimed_header_length_allocates_nothing(claim: int, tmp_path: Path) -> None:
    data = struct.pack("<Q", claim) + b"{}"
    check_cost(data, 0, ErrorCode.E102 if claim > MAX_HEADER else ErrorCode.E101, tmp_path, allowance=2**20)


@pytest.mark.spec("SEC-3", "SEC-4")
@pytest.mark.parametrize(
    ("shape", "end", "code"),
    [
        ([2**31 - 1], 8, ErrorCode.E106),
        ([2**31], 8, ErrorCode.E107),
        ([2**31 - 1] * 4, 8, ErrorCode.E106),
        ([2**16] * 4, 0, ErrorCode.E106),  # 2^64 elements, which is 0 modulo 2^64
        ([2**31 - 1, 2**31 - 1, 4], (2**33 - 2**2) * (2**31 - 1) * 4 % 2**53, ErrorCode.E106),
        ([2**31 - 1, 2**20], (2**31 - 1) * 2**22, ErrorCode.E101),
    ],
)
def test_huge_shapes_allocate_nothing(shape: list[int], end: int, code: ErrorCode, tmp_path: Path) -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    header = {"__metadata__": raw.metadata, "a": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}
    check_cost(join(header, bytes(8)), 1, code, tmp_path, allowance=2**20)


@pytest.mark.spec("SEC-3", "FMT-26")
def test_a_sparse_file_beyond_the_budget_of_elements_allocates_nothing(tmp_path: Path) -> None:
    """Four gigabytes that the disk does not hold: sizes agree, so the budget is what stops it."""
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    header = {"__metadata__": raw.metadata, "a": {"dtype": "F32", "shape": [2**30], "data_offsets": [0, 2**32]}}
    start = join(header)
    file = tmp_path / "sparse"
    with file.open("wb") as stream:
        stream.write(start)
        stream.truncate(len(start) + 2**32)
    cost = measure(lambda: load_adapter(file))
    assert cost.code is ErrorCode.E309
    assert cost.peak < 2**20


@pytest.mark.spec("FMT-14", "SEC-7")
@pytest.mark.parametrize(
    "spans", [[(0, 8), (4, 12)], [(0, 8), (0, 8)], [(0, 16), (8, 16)], [(8, 16), (8, 16)], [(0, 8), (16, 24)]]
)
def test_tensors_that_overlap_or_leave_gaps(spans: list[tuple[int, int]]) -> None:
    entries = {f"t{i}": {"dtype": "U8", "shape": [], "data_offsets": span} for i, span in enumerate(spans)}
    for entry, (begin, end) in zip(entries.values(), spans, strict=True):
        entry |= {"dtype": "F32", "shape": [(end - begin) // 4]}
    with rejected(ErrorCode.E105):
        parse_header(join(entries, bytes(24)))


@pytest.mark.spec("FMT-5", "CFG-2")
@pytest.mark.parametrize("place", ["", '"backbone":', '"sites":[', '"training":{"a":[', '"extensions":{"x":'])
def test_a_duplicate_key_at_every_level_of_the_configuration(place: str) -> None:
    twice = '{"k":1,"\\u006b":2}'
    closing = {"[": "]", "{": "}"}
    ends = "".join(closing[bracket] for bracket in reversed([c for c in place if c in closing]))
    text = twice if not place else "{" + place + twice + ends + "}"
    with rejected(ErrorCode.E104):
        config_from_json(text)


def check_cost(
    data: bytes, tensors: int, code: ErrorCode | None, folder: Path, *, allowance: int | None = None
) -> None:
    """Read the file once for its time and once for its memory."""
    limit = bound(len(data), tensors) if allowance is None else 2 * len(data) + allowance
    file = folder / "file"
    file.write_bytes(data)
    cost = measure(lambda: load_adapter(file))
    assert cost.code is code
    assert cost.peak <= limit, f"{cost.peak:,} bytes, at most {limit:,}"
    assert cost.seconds <= SECONDS
