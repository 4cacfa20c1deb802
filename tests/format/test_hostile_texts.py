"""Texts made to steer a terminal or to forge a line of a log, in every place of a file that messages quote."""

import json
from typing import Any

import pytest

from compacter_core.errors import CompacterError
from compacter_core.format.config_json import config_from_json
from compacter_core.format.reader import parse_adapter
from compacter_core.format.writer import adapter_bytes
from tests.format.builders import RawFile, join, make_adapter

ESCAPES = "\x1b[2J\x1b]0;title\x07\r\n\x00\x7f\x9b\u202e\u2028"


@pytest.mark.spec("SEC-10")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(join({ESCAPES: {}}), id="tensor name"),
        pytest.param(join({"a": {"dtype": ESCAPES, "shape": [], "data_offsets": [0, 0]}}), id="type"),
        pytest.param(join({"a": {ESCAPES: 1}}), id="entry key"),
        pytest.param(join(f'{{"a":{ESCAPES}}}'), id="broken JSON"),
        pytest.param(join({"__metadata__": {f"compacter.{ESCAPES}": ""}}), id="metadata key"),
        pytest.param(b"PK\x03\x04\x1b[2J", id="archive"),
    ],
)
def test_messages_about_files_hold_no_control_characters(data: bytes) -> None:
    with pytest.raises(CompacterError) as caught:
        parse_adapter(data)
    check_message(caught.value)


@pytest.mark.spec("SEC-10")
@pytest.mark.parametrize(
    "change",
    [
        {ESCAPES: 1},
        {"name": ESCAPES},
        {"spec_version": ESCAPES},
        {"sites": [{"id": ESCAPES, "bottleneck_size": 4}]},
        {"projection": {"kind": ESCAPES}},
        {"training": {ESCAPES: {"a": float("nan")}}},
        {"extensions": {ESCAPES: 1}},
        {"backbone": {"model_type": "b", "hidden_size": 8, "norm_style": "pre", "num_layers": {ESCAPES: 1}}},
        {"head": {"task": "t", "layers": [ESCAPES], "shapes": {ESCAPES: [1]}}},
        {"overrides": [{"name": ESCAPES, "kind": "bias"}]},
        {"x" * 10**6: 1},
    ],
    ids=lambda change: next(iter(change))[:16].encode("unicode_escape").decode(),
)
def test_messages_about_configurations_hold_no_control_characters(change: dict[str, Any]) -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    with pytest.raises(CompacterError) as caught:
        config_from_json(json.dumps(raw.config | change))
    check_message(caught.value)


def check_message(error: CompacterError) -> None:
    for text in (str(error), *error.as_dict().values()):
        assert text is None or text.isprintable()
        assert len(text or "") < 4_000
