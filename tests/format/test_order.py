"""A file that breaks two rules is refused for the one that is checked first."""

import struct
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

from compacter_core.errors import ErrorCode
from compacter_core.format.reader import load_adapter, parse_adapter
from compacter_core.format.writer import ADAPTER_FILE, CONFIG_FILE, adapter_bytes
from tests.format.builders import RawFile, RawTensor, make_adapter, rejected

Change = Callable[[RawFile], None]


def no_version(raw: RawFile) -> None:
    del raw.metadata["compacter.spec_version"]


def later_version(raw: RawFile) -> None:
    raw.metadata["compacter.spec_version"] = "2.0"


def foreign_metadata(raw: RawFile) -> None:
    raw.metadata["compacter.note"] = "x"


def wrong_division(raw: RawFile) -> None:
    raw.config = raw.config | {"projection": raw.config["projection"] | {"phm_dim": 3}}


def one_more_tensor(raw: RawFile) -> None:
    raw.tensors["surplus"] = RawTensor("F32", [1], bytes(4))


def two_types(raw: RawFile) -> None:
    tensor = raw.tensors["head.classifier.bias"]
    tensor.dtype, tensor.data = "F16", tensor.data[: len(tensor.data) // 2]


def not_a_number(raw: RawFile) -> None:
    tensor = raw.tensors["shared.phm_rule"]
    tensor.data = struct.pack("<f", float("nan")) + tensor.data[4:]


IN_ORDER: dict[ErrorCode, Change] = {
    ErrorCode.E201: no_version,
    ErrorCode.E204: later_version,
    ErrorCode.E205: foreign_metadata,
    ErrorCode.E207: wrong_division,
    ErrorCode.E303: one_more_tensor,
    ErrorCode.E305: two_types,
    ErrorCode.E306: not_a_number,
}


@pytest.mark.spec("ERR-1", "ERR-4")
@pytest.mark.parametrize(("first", "second"), [*combinations(IN_ORDER, 2)])
def test_the_first_of_two_broken_rules_gives_the_code(first: ErrorCode, second: ErrorCode, tmp_path: Path) -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    for code in (second, first):
        if {first, second} == {ErrorCode.E201, ErrorCode.E204} and code is second:
            continue  # the version cannot be both absent and another one
        IN_ORDER[code](raw)
    data = raw.put_together()
    with rejected(first):
        parse_adapter(data)
    with rejected(ErrorCode.E105):
        parse_adapter(data + b" ")
    (tmp_path / ADAPTER_FILE).write_bytes(data)
    (tmp_path / CONFIG_FILE).write_text("{}", encoding="utf-8")
    with rejected(first):
        load_adapter(tmp_path)
