"""The JSON Schemas of configurations and headers: executed against every file, and tied to the code."""

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from enum import StrEnum
from math import prod
from pathlib import Path
from typing import Any

import pytest

from compacter_core import config as configuration
from compacter_core.adapter import DType
from compacter_core.conformance.case import Case
from compacter_core.conformance.generate.files_bytes import RawTensor
from compacter_core.conformance.generate.files_canonical import canonical_bytes
from compacter_core.conformance.schemas import schema_file, violations
from compacter_core.conformance.words import Op
from compacter_core.format.container import MAX_DIMENSION, MAX_NAME, MAX_RANK, MAX_TENSORS
from compacter_core.format.reader import parse_adapter
from compacter_core.format.writer import adapter_bytes
from compacter_core.vocabulary import (
    Activation,
    Input,
    NormStyle,
    OverrideKind,
    ProjectionKind,
    ScalingKind,
    Skip,
    Stack,
)
from tests.conformance.file_suite import file_cases, suite

ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = json.loads(schema_file("config").read_text(encoding="utf-8"))
DEFINITIONS: dict[str, Any] = CONFIG["$defs"]


def is_valid(name: str, value: object) -> bool:
    return not [*violations(name, value)]


# The configuration.


def configs_of_files() -> Iterator[tuple[Case, object]]:
    """The configuration of each file whose container is right and whose configuration is JSON."""
    for case in file_cases(limits=False):
        if case.op is not Op.READ or "profile" in case.files:
            continue
        text = config_text(suite().files[case.files["adapter"]])
        if text is None:
            continue
        try:
            yield case, json.loads(text)
        except (ValueError, RecursionError):
            continue


def config_text(data: bytes) -> str | None:
    length = int.from_bytes(data[:8], "little")
    try:
        text = json.loads(data[8 : 8 + length])["__metadata__"]["compacter.config"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return text if isinstance(text, str) else None


def test_configurations_of_valid_files_are_valid() -> None:
    found = [(case.id, [*violations("config", config)]) for case, config in configs_of_files() if case.expect.value]
    assert len(found) > 90
    assert [(name, problems) for name, problems in found if problems] == []


NOT_CAUGHT = {
    "read/e203/type/size-float": "4.0 is an integer to a schema",
    "read/e203/type/rank-float": "1.0 is an integer to a schema",
    "read/e203/type/shape-float": "3.0 is an integer to a schema",
    "read/e203/shared-weights-of-two-sizes": "CFG-13 compares sites",
    "read/e203/override-twice": "CFG-15 compares overrides",
    "read/e203/head/no-weight": "CFG-17 compares keys",
    "read/e203/head/other-layer": "CFG-17",
    "read/e203/head/tensor-too-many": "CFG-17",
    "read/e203/head/other-parameter": "CFG-17",
    "read/e203/head/two-labels-of-three": "CFG-17",
    "read/e203/surrogate": "strings of any code points",
    "read/e203/surrogates-reversed": "strings of any code points",
    "read/e204/metadata/newer": "FMT-18 compares with the metadata",
    "read/e204/metadata/other-major": "FMT-18",
    "read/e205/metadata": "FMT-17 is about the metadata",
    "read/e207/hidden_size": "CFG-10 divides",
    "read/e207/bottleneck_size": "CFG-10",
    "read/e207/second-site": "CFG-10",
    "read/e207/larger-than-k": "CFG-10",
    "read/e207/before-e306": "CFG-10",
    "read/e211/twice": "CFG-12 compares sites",
    "read/e211/layer-too-high": "CFG-12 compares with the backbone",
    "read/e211/stack-not-there": "CFG-12",
    "read/e401/hidden_size": "CFG-14 compares with the backbone",
    "read/e404/norm-not-listed": "CFG-16 compares with the norms",
}
"""Wrong configurations that the schema accepts, and why; it has to refuse all others but those of E202, which is about
the text."""


def test_the_schema_refuses_wrong_configurations_but_for_what_no_schema_can_say() -> None:
    codes = ("E203", "E204", "E205", "E207", "E208", "E209", "E210", "E211", "E401", "E404", "E405")
    wrong = [(case, config) for case, config in configs_of_files() if case.expect.code in codes]
    of_tensors = {
        case.id for case, _ in wrong if case.id.startswith("read/e404/") and case.id.endswith(("matrix", "scalar"))
    }
    accepted = {case.id for case, config in wrong if is_valid("config", config)} - of_tensors
    assert accepted == set(NOT_CAUGHT)


TYPES = {
    "AdapterConfig": CONFIG,
    "Projection": DEFINITIONS["projection"],
    "Attach": DEFINITIONS["attach"],
    "Site": DEFINITIONS["site"],
    "SiteModules": DEFINITIONS["modules"],
    "Backbone": DEFINITIONS["backbone"],
    "Override": DEFINITIONS["override"],
    "Head": DEFINITIONS["head"],
}


@pytest.mark.parametrize("name", TYPES)
def test_keys_are_the_fields_of_the_dataclasses(name: str) -> None:
    kind, schema = getattr(configuration, name), TYPES[name]
    assert set(schema["properties"]) == {field.name for field in fields(kind)}
    assert schema["additionalProperties"] is False
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    # A file always says its version, although a configuration in memory need not.
    assert set(schema.get("required", ())) == needed | ({"spec_version"} if name == "AdapterConfig" else set())


@pytest.mark.parametrize(
    ("enum", "words"),
    [
        (Activation, CONFIG["properties"]["non_linearity"]["enum"]),
        (ScalingKind, CONFIG["properties"]["scaling"]["anyOf"][1]["enum"]),
        (ProjectionKind, DEFINITIONS["projection"]["properties"]["kind"]["enum"]),
        (Input, DEFINITIONS["attach"]["properties"]["input"]["enum"]),
        (Skip, DEFINITIONS["attach"]["properties"]["skip"]["enum"]),
        (NormStyle, DEFINITIONS["backbone"]["properties"]["norm_style"]["enum"]),
        (Stack, list(DEFINITIONS["backbone"]["properties"]["num_layers"]["properties"])),
        (OverrideKind, DEFINITIONS["override"]["properties"]["kind"]["enum"]),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_words_are_those_of_the_vocabulary(enum: type[StrEnum], words: list[str]) -> None:
    assert set(words) == {word.value for word in enum}


def test_ranges_are_those_of_the_code() -> None:
    projection = DEFINITIONS["projection"]["properties"]
    assert DEFINITIONS["size"]["maximum"] == configuration.MAX_SIZE
    assert projection["phm_dim"]["maximum"] == configuration.MAX_PHM_DIM
    assert projection["phm_rank"]["maximum"] == configuration.MAX_PHM_RANK
    shape = DEFINITIONS["head"]["properties"]["shapes"]["additionalProperties"]
    assert (shape["maxItems"], shape["items"]["maximum"]) == (MAX_RANK, MAX_DIMENSION)


# The header.


def headers() -> Iterator[tuple[Case, Any]]:
    """The header of each file where it is JSON."""
    for case in file_cases(limits=False):
        if case.op is Op.READ:
            data = suite().files[case.files["adapter"]]
            try:
                yield case, json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            except (ValueError, RecursionError):
                continue


def test_headers_of_valid_files_are_valid() -> None:
    found = [(case.id, [*violations("header", header)]) for case, header in headers() if case.expect.value]
    assert [(name, problems) for name, problems in found if problems] == []


@pytest.mark.parametrize("code", ["E107", "E108", "E109", "E110", "E111", "E201"])
def test_the_header_schema_refuses(code: str) -> None:
    wrong = [(case, header) for case, header in headers() if case.expect.code == code]
    of_sketches = {"read/e110/sketch-weight", "read/e110/sketch-bias"}
    floats = {"read/e107/float"}
    accepted = {case.id for case, header in wrong if is_valid("header", header)}
    assert wrong
    assert accepted <= of_sketches | floats


def test_the_header_schema_has_the_limits_of_the_code() -> None:
    schema = json.loads(schema_file("header").read_text(encoding="utf-8"))
    assert schema["maxProperties"] == MAX_TENSORS + 1
    assert schema["propertyNames"]["maxLength"] == MAX_NAME
    assert set(schema["additionalProperties"]["properties"]["dtype"]["enum"]) == set(DType)


def test_the_example_of_the_specification_is_valid_and_canonical() -> None:
    text = (ROOT / "specs" / "file-format.md").read_text(encoding="utf-8")
    header_text, values = (
        block.strip() for block in re.findall(r"^```text$(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    )
    joined = header_text.replace("\n", "")
    header = json.loads(joined)
    assert [*violations("header", header)] == []
    config = json.loads(header["__metadata__"]["compacter.config"])
    assert [*violations("config", config)] == []
    numbers = iter(float(word) for word in values.split())
    tensors = {
        name: RawTensor.of(entry["dtype"], entry["shape"], [next(numbers) for _ in range(prod(entry["shape"]))])
        for name, entry in header.items()
        if name != "__metadata__"
    }
    data = canonical_bytes(config, tensors)
    assert data[8:].startswith(joined.encode())
    assert data == adapter_bytes(parse_adapter(data))
