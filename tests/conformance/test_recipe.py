"""Recipes: large files as a few segments."""

import json
from pathlib import Path
from typing import Any

import pytest

from compacter_core.conformance.recipe import Segment, parse_recipe, write_recipe
from compacter_core.errors import CompacterError, ErrorCode


def made(tmp_path: Path, *segments: Any) -> bytes:
    parsed = parse_recipe(json.dumps({"segments": segments}).encode(), "a recipe")
    write_recipe(parsed, tmp_path / "made")
    data = (tmp_path / "made").read_bytes()
    assert len(data) == sum(segment.size for segment in parsed)
    return data


def test_segments_follow_each_other(tmp_path: Path) -> None:
    assert made(tmp_path, {"text": "é"}, {"hex": "00ff"}, {"text": "ab", "times": 3}) == b"\xc3\xa9\x00\xffababab"


def test_counters_count(tmp_path: Path) -> None:
    segment = {"text": "t#:[#,#];", "times": 3, "counters": [[0, 1], [0, 2], [2, 2]]}
    assert made(tmp_path, segment) == b"t0:[0,2];t1:[2,4];t2:[4,6];"


def test_a_place_of_a_counter_is_a_letter_like_any_other_without_counters(tmp_path: Path) -> None:
    assert made(tmp_path, {"text": "#", "times": 2}) == b"##"


def test_zeros_in_the_middle_and_at_the_end_are_zeros(tmp_path: Path) -> None:
    zeros = {"hex": "00", "times": 3_000_000}
    assert made(tmp_path, {"text": "a"}, zeros, {"text": "b"}, zeros) == b"a" + bytes(3_000_000) + b"b" + bytes(
        3_000_000
    )


@pytest.mark.parametrize("times", [0, 1, 2**20 - 1, 2**20, 2**20 + 1])
def test_pieces_are_not_longer_than_a_mebibyte(times: int) -> None:
    pieces = [*Segment(b"xy", times)]
    assert b"".join(pieces) == b"xy" * times
    assert max(map(len, pieces)) <= 2**20


@pytest.mark.parametrize(
    "segment",
    [
        {},
        {"text": "a", "hex": "00"},
        {"text": "a", "count": 2},
        {"text": 1},
        {"hex": "0"},
        {"text": "a", "times": -1},
        {"text": "a", "times": True},
        {"text": "a", "times": 1.0},
        {"text": "#", "counters": [[0, 1]]},
        {"text": "#", "times": 2, "counters": [[0, 1], [0, 1]]},
        {"text": "#", "times": 2, "counters": [[0]]},
        {"text": "#", "times": 2, "counters": [[0, 0.5]]},
        {"hex": "23", "times": 2, "counters": [[0, 1]]},
        "text",
    ],
    ids=repr,
)
def test_what_is_no_recipe_is_refused(segment: Any) -> None:
    with pytest.raises(CompacterError, match="is no recipe") as caught:
        parse_recipe(json.dumps({"segments": [segment]}).encode(), "a recipe")
    assert caught.value.code is ErrorCode.E801


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"segments": 1}'])
def test_what_is_no_list_of_segments_is_refused(text: str) -> None:
    with pytest.raises(CompacterError, match="is no recipe"):
        parse_recipe(text.encode(), "a recipe")
