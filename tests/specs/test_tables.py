"""Tables and limits of the documents are those of the code, and their examples hold."""

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from compacter_core import config as configuration
from compacter_core.adapter import DType
from compacter_core.config import ATTACH_PRESETS, AdapterConfig, Attach
from compacter_core.format import config_json, container, metadata, sketch, strict_json, tensors
from compacter_core.format.reader import parse_adapter
from compacter_core.format.writer import adapter_bytes
from compacter_core.vocabulary import Activation, Input, NormStyle, OverrideKind, ProjectionKind, Skip, Stack, Sublayer
from tests.specs.documents import ROOT, documents, section, statements, tables

TEXTS = documents()
FORMAT = TEXTS["file-format.md"]
BY_ID = {statement.id: statement.text for statement in statements(TEXTS)}


def words(text: str) -> set[str]:
    """What stands between backticks."""
    return set(re.findall(r"`([^`]+)`", text))


def keys_of(kind: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each key that a dataclass stands for, with its default as the table writes it."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        inner = _inner(hints[field.name])
        name = path + field.name
        yield name, _default(field.name, field.default, field.default_factory)
        if is_dataclass(inner) and field.name != "modules" and not (path == "sites[]." and inner is Attach):
            yield from keys_of(inner, f"{name}[]." if get_origin(hints[field.name]) is tuple else f"{name}.")


def _inner(hint: Any) -> Any:
    while isinstance(hint, UnionType) or get_origin(hint) is tuple:
        hint = get_args(hint)[0]
    return hint


def _default(name: str, default: Any, factory: Any) -> str:
    if name == "spec_version" or (default is MISSING and factory is MISSING):
        return "required"
    if factory is not MISSING:
        return "{}"
    if default is None:
        return "absent"
    if isinstance(default, Attach):
        return "all defaults"
    return json.dumps(default.value if isinstance(default, StrEnum) else list(default) if default == () else default)


@pytest.mark.spec("CFG-3", "CFG-5")
def test_the_table_of_keys_is_the_configurations() -> None:
    rows = next(tables(section(FORMAT, "Configuration")))[1:]
    written = {key: row[2].strip("`") for row in rows for key in words(row[0])}
    assert written == dict(keys_of(AdapterConfig))


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("projection.kind", ProjectionKind),
        ("non_linearity", Activation),
        ("backbone.norm_style", NormStyle),
        ("overrides[].kind", OverrideKind),
    ],
)
def test_words_of_the_table_of_keys(place: str, kind: type[StrEnum]) -> None:
    (row,) = (row for row in next(tables(section(FORMAT, "Configuration")))[1:] if words(row[0]) == {place})
    assert words(row[3]) == {word.value for word in kind}


def test_words_of_placement() -> None:
    rows = next(tables(section(TEXTS["placement.md"], "The sublayer's result")))[1:]
    assert [row[0].strip("`") for row in rows] == list(Input)
    assert [row[3].strip("`") for row in rows] == list(Skip)
    assert words(BY_ID["PLC-1"]) >= {*Stack, *Sublayer}


def test_presets() -> None:
    table = list(tables(section(TEXTS["placement.md"], "The sublayer's result")))[1]
    written = {
        row[0]: Attach(input=Input(row[1].strip("`")), skip=Skip(row[2].strip("`")), post=row[3] == "true")
        for row in table[1:]
    }
    assert written == dict(ATTACH_PRESETS)


def test_activations_have_a_statement_each() -> None:
    stated = [next(iter(re.findall(r"`(\w+)`", BY_ID[f"FWD-{number}"]))) for number in range(14, 20)]
    assert stated == list(Activation)


@pytest.mark.parametrize(
    ("statement", "limit"),
    [
        ("FMT-2", container.MAX_HEADER),
        ("FMT-4", strict_json.MAX_DEPTH),
        ("FMT-7", container.MAX_TENSORS),
        ("FMT-7", container.MAX_NAME),
        ("FMT-11", container.MAX_RANK),
        ("FMT-37", metadata.MAX_KEYS),
        ("FMT-37", metadata.MAX_KEY),
        ("FMT-37", container.MAX_ENTRY),
        ("CFG-1", config_json.MAX_CONFIG),
        ("CFG-1", strict_json.MAX_DEPTH),
        ("CFG-19", strict_json.MAX_VALUES),
        ("SKT-3", sketch.SKETCH_SIZE),
    ],
)
def test_limits(statement: str, limit: int) -> None:
    assert f"{limit:,}" in BY_ID[statement]


def test_limits_of_sizes_and_powers() -> None:
    rows = {key: row[3] for row in next(tables(section(FORMAT, "Configuration")))[1:] for key in words(row[0])}
    limits = {
        "hidden_size": configuration.MAX_SIZE,
        "sites[].bottleneck_size": configuration.MAX_SIZE,
        "projection.phm_dim": configuration.MAX_PHM_DIM,
        "projection.phm_rank": configuration.MAX_PHM_RANK,
    }
    for key, limit in limits.items():
        assert rows[key].startswith(f"1 to {limit:,}; E208")
    assert (container.MAX_DIMENSION, "from 1 to 2^31" in BY_ID["FMT-11"]) == (2**31 - 1, True)
    assert (strict_json.MAX_INTEGER, "±(2^53" in BY_ID["CFG-1"]) == (2**53 - 1, True)
    assert (tensors.MAX_ELEMENTS, "2^28" in BY_ID["FMT-26"]) == (2**28, True)
    assert (sketch.ROUNDING, "2^-8" in BY_ID["SKT-5"]) == (2.0**-8, True)
    assert (sketch.THRESHOLD, "0.95" in BY_ID["SKT-6"]) == (0.95, True)


def keys_in(value: Any, path: str = "") -> Iterator[str]:
    """The keys of a binding as its table writes them: names of stacks, sublayers and models are `*`."""
    if isinstance(value, list):
        for item in value:
            yield from keys_in(item, f"{path}[]")
    elif isinstance(value, dict):
        free = path in ("layouts[]", "heads") or path.endswith(".sublayers")
        for key, item in value.items():
            inner = ("*" if free else key) if not path else f"{path}.{'*' if free else key}"
            if not free:
                yield inner
            yield from keys_in(item, inner)


def test_the_table_of_bindings_has_the_keys_in_use() -> None:
    written = {row[0].strip("`") for row in next(tables(TEXTS["bindings.md"]))[1:]}
    bindings = [
        json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "compacter_core/bindings").glob("*.json")
    ]
    assert written == {key for binding in bindings for key in keys_in(binding)}


@pytest.mark.spec("SKT-1")
def test_example_of_sketch_positions() -> None:
    match = re.search(
        r"\[(\d+), (\d+)\] the positions are ([\d, ]+) and so on, up to (\d+)", section(FORMAT, "Sketches")
    )
    assert match is not None
    rows, columns, first, last = match.groups()
    positions = sketch.sketch_indices((int(rows), int(columns))).tolist()
    written = [int(position) for position in first.split(", ")]
    assert positions[: len(written)] == written
    assert positions[-1] == int(last)


@pytest.mark.spec("FMT-27", "FMT-28", "FMT-29", "FMT-34", "VER-5")
def test_example_of_canonical_bytes() -> None:
    text = section(FORMAT, "Example")
    blocks = re.findall(r"```text\n(.*?)\n```", text, re.DOTALL)
    header, body = blocks
    raw = header.replace("\n", "")
    raw += " " * (-len(raw.encode()) % 8)
    values = [float(word) for word in body.split()]
    data = len(raw).to_bytes(8, "little") + raw.encode() + np.array(values, dtype="<f4").tobytes()
    adapter = parse_adapter(data)
    assert adapter.dtype is DType.F32
    assert adapter_bytes(adapter) == data
    assert re.search(r"(\d+) bytes of header", text.replace("\n", " ")).group(1) == str(len(raw))  # type: ignore[union-attr]
