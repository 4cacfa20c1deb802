"""E201 to E211, and the codes E401, E404 and E405 that a configuration alone can raise."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import MAX_CONFIG, config_from_json, config_to_json
from compacter_core.format.reader import parse_adapter
from compacter_core.format.writer import adapter_bytes
from tests.format.builders import CONFIG, NORM, RawFile, make_adapter, rejected, with_config

GOOD: dict[str, Any] = json.loads(config_to_json(CONFIG))


def read(**changes: Any) -> None:
    config_from_json(json.dumps(GOOD | changes))


def without(value: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key not in keys}


@pytest.mark.spec("FMT-16")
@pytest.mark.parametrize("key", ["compacter.config", "compacter.spec_version"])
def test_e201_no_metadata(key: str) -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    del raw.metadata[key]
    with rejected(ErrorCode.E201):
        parse_adapter(raw.put_together())


@pytest.mark.spec("CFG-1")
def test_e202_text_over_the_limit() -> None:
    text = json.dumps(GOOD)
    config_from_json(text + " " * (MAX_CONFIG - len(text)))
    with rejected(ErrorCode.E202):
        config_from_json(text + " " * (MAX_CONFIG - len(text) + 1))


@pytest.mark.spec("CFG-1")
def test_e202_counts_bytes_and_not_characters() -> None:
    labels = ["ß" * (MAX_CONFIG // 2)]
    with rejected(ErrorCode.E202):
        config_from_json(json.dumps(GOOD | {"head": GOOD["head"] | {"labels": labels}}, ensure_ascii=False))


def nested(depth: int, brackets: str = "[]") -> str:
    text = json.dumps(GOOD | {"training": {"x": "HERE"}})
    return text.replace('"HERE"', brackets[0] * (depth - 2) + brackets[1] * (depth - 2))


@pytest.mark.spec("CFG-1")
def test_e202_depth_over_the_limit() -> None:
    config_from_json(nested(16))
    with rejected(ErrorCode.E202):
        config_from_json(nested(17))


@pytest.mark.spec("CFG-1", "SEC-2")
def test_e202_depth_that_would_overflow_a_recursive_parser() -> None:
    with rejected(ErrorCode.E202):
        config_from_json("[" * 200_000)


def test_brackets_inside_strings_do_not_count_as_depth() -> None:
    read(method='\\"' + "[" * 1000 + '\\"')


@pytest.mark.spec("CFG-1")
@pytest.mark.parametrize(
    "literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", str(2**53), str(-(2**53)), "9" * 5000]
)
def test_e202_number_out_of_range(literal: str) -> None:
    with rejected(ErrorCode.E202):
        config_from_json(json.dumps(GOOD | {"scaling": "HERE"}).replace('"HERE"', literal))


@pytest.mark.spec("CFG-1", "FMT-33")
@pytest.mark.parametrize("number", [float("nan"), float("inf"), 2**53])
def test_e202_when_writing_a_number_that_could_not_be_read(number: float) -> None:
    with rejected(ErrorCode.E202):
        config_to_json(with_config(training={"x": number}))


MISSHAPEN = {
    "not an object": lambda c: [c],
    "no method": lambda c: without(c, "method"),
    "no sites": lambda c: without(c, "sites"),
    "sites object": lambda c: c | {"sites": {}},
    "sites of strings": lambda c: c | {"sites": ["encoder.0.ffn"]},
    "site without size": lambda c: c | {"sites": [{"id": "encoder.0.ffn"}]},
    "size as text": lambda c: c | {"hidden_size": "8"},
    "size as float": lambda c: c | {"hidden_size": 8.0},
    "size as boolean": lambda c: c | {"sites": [{"id": "encoder.0.ffn", "bottleneck_size": True}]},
    "boolean as number": lambda c: c | {"bias_up": 1},
    "scaling as boolean": lambda c: c | {"scaling": True},
    "scaling as unknown word": lambda c: c | {"scaling": "big"},
    "scaling as list": lambda c: c | {"scaling": [1.0]},
    "null for absence": lambda c: c | {"head": None},
    "method as number": lambda c: c | {"method": 1},
    "kind": lambda c: c | {"projection": {"kind": "kron"}},
    "kind as list": lambda c: c | {"projection": {"kind": ["phm"]}},
    "phm_dim missing": lambda c: c | {"projection": {"kind": "phm"}},
    "phm_dim not wanted": lambda c: c | {"projection": {"kind": "dense", "phm_dim": 2}},
    "rule flags not wanted": lambda c: c | {"projection": {"kind": "dense", "shared_phm_rule": True}},
    "norm_style": lambda c: c | {"backbone": c["backbone"] | {"norm_style": "sandwich"}},
    "stack": lambda c: c | {"backbone": c["backbone"] | {"num_layers": {"middle": 2}}},
    "override twice": lambda c: c | {"overrides": c["overrides"] * 2},
    "head without weight": lambda c: c | {"head": c["head"] | {"shapes": {"classifier.bias": [3]}}},
    "head without layers": lambda c: c | {"head": c["head"] | {"layers": [], "shapes": {}}},
    "head with a foreign tensor": lambda c: c | {"head": c["head"] | {"layers": ["dense"]}},
    "head with a tensor too many": lambda c: (
        c | {"head": c["head"] | {"shapes": c["head"]["shapes"] | {"x.bias": [3]}}}
    ),
    "labels do not match": lambda c: c | {"head": c["head"] | {"labels": ["a", "b"]}},
    "training as list": lambda c: c | {"training": []},
    "unpaired surrogate": lambda c: c | {"method": "\ud800"},
    "shared_W with different sizes": lambda c: c | {"projection": c["projection"] | {"shared_W": True}},
}


@pytest.mark.spec("CFG-4", "CFG-7", "CFG-8", "CFG-13", "CFG-15", "CFG-17")
@pytest.mark.parametrize("change", MISSHAPEN.values(), ids=MISSHAPEN.keys())
def test_e203_schema(change: Callable[[dict[str, Any]], Any]) -> None:
    with rejected(ErrorCode.E203):
        config_from_json(json.dumps(change(GOOD)))


@pytest.mark.spec("CFG-2")
@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", '{"a": 01}', '{"a": "\n"}', "\ud800", '"' + '\\"' * 100_000])
def test_e203_not_json(text: str) -> None:
    with rejected(ErrorCode.E203):
        config_from_json(text)


def test_e203_when_writing_what_json_cannot_express() -> None:
    with rejected(ErrorCode.E203):
        config_to_json(with_config(training={"x": np.zeros(2)}))
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with rejected(ErrorCode.E203):
        config_to_json(with_config(training=loop))


@pytest.mark.spec("VER-1", "VER-2")
@pytest.mark.parametrize("version", ["2.0", "0.9", "1", "1.0.0", "01.0", "1.x", "", "1.\u0660", 1.0, None, ["1.0"]])
def test_e204_version(version: Any) -> None:
    with rejected(ErrorCode.E204):
        read(spec_version=version)


@pytest.mark.spec("VER-2", "ERR-4")
def test_e204_comes_before_what_a_later_version_may_have_changed() -> None:
    with rejected(ErrorCode.E204):
        config_from_json(json.dumps({"spec_version": "2.0", "everything": "new"}))


@pytest.mark.spec("CFG-4", "VER-1")
def test_e204_no_version() -> None:
    with rejected(ErrorCode.E204):
        config_from_json(json.dumps(without(GOOD, "spec_version")))


@pytest.mark.spec("FMT-18", "VER-2")
def test_e204_metadata_of_another_major_or_another_version_than_the_configuration() -> None:
    for version in ("2.0", "1.1"):
        raw = RawFile.take_apart(adapter_bytes(make_adapter()))
        raw.metadata["compacter.spec_version"] = version
        with rejected(ErrorCode.E204):
            parse_adapter(raw.put_together())


@pytest.mark.spec("VER-2", "ERR-4")
def test_e204_metadata_of_another_major_whose_configuration_is_no_longer_json() -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    raw.metadata |= {"compacter.spec_version": "2.0", "compacter.config": "name = tiny"}
    with rejected(ErrorCode.E204):
        parse_adapter(raw.put_together())


@pytest.mark.spec("VER-3", "VER-4")
def test_a_later_minor_version_is_read_and_kept() -> None:
    config = config_from_json(json.dumps(GOOD | {"spec_version": "1.7"}))
    assert json.loads(config_to_json(config))["spec_version"] == "1.7"


UNKNOWN = {
    "top": lambda c: c | {"reduction_factor": 2},
    "projection": lambda c: c | {"projection": c["projection"] | {"learn_phm": True}},
    "attach": lambda c: c | {"attach": c["attach"] | {"pre": True}},
    "site": lambda c: c | {"sites": [c["sites"][0] | {"k": 1}]},
    "backbone": lambda c: c | {"backbone": c["backbone"] | {"vocab_size": 1}},
    "override": lambda c: c | {"overrides": [c["overrides"][0] | {"shape": [8]}]},
    "head": lambda c: c | {"head": c["head"] | {"dropout": 0.1}},
    "extension that must be understood": lambda c: c | {"extensions": {"fusion": {"must_understand": True}}},
    "extension that does not say": lambda c: c | {"extensions": {"fusion": {}}},
    "extension that is no object": lambda c: c | {"extensions": {"fusion": 1}},
    "extension with a falsy word": lambda c: c | {"extensions": {"fusion": {"must_understand": 0}}},
}


@pytest.mark.spec("CFG-3", "CFG-6", "VER-6")
@pytest.mark.parametrize("change", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_e205_unknown_key(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with rejected(ErrorCode.E205):
        config_from_json(json.dumps(change(GOOD)))


@pytest.mark.spec("FMT-17")
def test_e205_unknown_metadata_of_our_own() -> None:
    raw = RawFile.take_apart(adapter_bytes(make_adapter()))
    raw.metadata["compacter.signature"] = "x"
    with rejected(ErrorCode.E205):
        parse_adapter(raw.put_together())


@pytest.mark.spec("CFG-6", "VER-6")
def test_extensions_that_may_be_ignored_are_kept() -> None:
    extensions = {"tool": {"must_understand": False, "anything": [1, None, {"x": 0.5}]}}
    config = config_from_json(json.dumps(GOOD | {"extensions": extensions}))
    assert config.extensions == extensions
    assert json.loads(config_to_json(config))["extensions"] == extensions


@pytest.mark.spec("CFG-10")
def test_e207_phm_dim_does_not_divide() -> None:
    with rejected(ErrorCode.E207):
        read(projection=GOOD["projection"] | {"phm_dim": 3})
    with rejected(ErrorCode.E207):
        read(sites=[{"id": "encoder.0.ffn", "bottleneck_size": 3}])


OUT_OF_RANGE = {
    "hidden_size 0": lambda c: c | {"hidden_size": 0},
    "hidden_size": lambda c: c | {"hidden_size": 65_537},
    "bottleneck_size": lambda c: c | {"sites": [{"id": "encoder.0.ffn", "bottleneck_size": 0}]},
    "phm_dim": lambda c: c | {"projection": c["projection"] | {"phm_dim": 257}},
    "phm_rank": lambda c: c | {"projection": c["projection"] | {"phm_rank": 1025}},
    "name empty": lambda c: c | {"name": ""},
    "name with a slash": lambda c: c | {"name": "../x"},
    "name too long": lambda c: c | {"name": "x" * 65},
    "name with a newline": lambda c: c | {"name": "x\n"},
    "num_layers": lambda c: c | {"backbone": c["backbone"] | {"num_layers": {"encoder": 0}}},
    "head dimension": lambda c: c | {"head": c["head"] | {"shapes": {"classifier.weight": [3, 0]}}},
    "head rank": lambda c: c | {"head": c["head"] | {"shapes": {"classifier.weight": []}}},
}


@pytest.mark.spec("CFG-9", "CFG-18")
@pytest.mark.parametrize("change", OUT_OF_RANGE.values(), ids=OUT_OF_RANGE.keys())
def test_e208_out_of_range(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with rejected(ErrorCode.E208):
        config_from_json(json.dumps(change(GOOD)))


def test_e208_scaling_not_finite_in_memory() -> None:
    with rejected(ErrorCode.E208):
        with_config(scaling=float("nan"))


@pytest.mark.spec("CFG-11")
@pytest.mark.parametrize("word", ["swish", "GELU", "", None, 1, ["gelu"]])
def test_e209_unknown_activation(word: Any) -> None:
    with rejected(ErrorCode.E209):
        read(non_linearity=word)


@pytest.mark.spec("PLC-6")
@pytest.mark.parametrize(
    "attach",
    [
        {"skip": "sublayer_output", "post": False},
        {"skip": "residual_sum", "post": True},
        {"skip": "normed_sum", "post": True},
        {"input": "logits"},
        {"skip": "nothing", "post": False},
    ],
)
def test_e210_attach(attach: dict[str, Any]) -> None:
    with rejected(ErrorCode.E210):
        read(attach=attach)
    with rejected(ErrorCode.E210):
        read(sites=[GOOD["sites"][0] | {"attach": attach}])


@pytest.mark.spec("PLC-1", "CFG-12")
@pytest.mark.parametrize(
    "sites",
    [
        pytest.param(["encoder.0.ffn", "encoder.0.ffn"], id="twice"),
        pytest.param(["encoder.2.ffn"], id="layer the backbone lacks"),
        pytest.param(["decoder.0.ffn"], id="stack the backbone lacks"),
        pytest.param(["encoder.00.ffn"], id="leading zero"),
        pytest.param(["encoder.1\u0660.ffn"], id="digit of another script"),
        pytest.param(["encoder.0.mlp"], id="sublayer"),
        pytest.param(["encoder.0.ffn\n"], id="newline"),
        pytest.param([], id="none"),
    ],
)
def test_e211_sites(sites: list[str]) -> None:
    with rejected(ErrorCode.E211):
        read(sites=[{"id": site, "bottleneck_size": 4} for site in sites])


@pytest.mark.spec("CFG-14")
def test_e401_hidden_size_of_adapter_and_backbone() -> None:
    with rejected(ErrorCode.E401):
        read(backbone=GOOD["backbone"] | {"hidden_size": 16})


@pytest.mark.spec("CFG-16")
def test_e404_norm_override_of_a_norm_the_backbone_lacks() -> None:
    with rejected(ErrorCode.E404):
        read(overrides=[{"name": "encoder.layer.9.output.LayerNorm.weight", "kind": "norm"}])


@pytest.mark.spec("CFG-15")
@pytest.mark.parametrize(
    "override",
    [
        {"name": "embeddings.word_embeddings.weight", "kind": "embedding"},
        {"name": "encoder.layer.0.output.dense.weight", "kind": "projection"},
        {"name": "encoder.layer.0.output.dense.weight", "kind": "bias"},
    ],
)
def test_e405_override_kind(override: dict[str, str]) -> None:
    with rejected(ErrorCode.E405):
        read(overrides=[override])


def test_every_message_names_the_place() -> None:
    with pytest.raises(CompacterError, match=r"sites\[1\]\.bottleneck_size"):
        read(sites=[GOOD["sites"][0], {"id": "encoder.1.ffn", "bottleneck_size": "2"}])
    with pytest.raises(CompacterError, match=r"backbone\.modules\.encoder\.0\.ffn\.linear"):
        read(backbone=GOOD["backbone"] | {"modules": {"encoder.0.ffn": {}}})


@pytest.mark.spec("FMT-33")
def test_the_writer_refuses_a_configuration_it_could_not_read() -> None:
    adapter = make_adapter()
    for wrong in ({"method": 3}, {"bias_up": 1}, {"name": "tiny", "training": []}):
        with rejected(ErrorCode.E203):
            adapter_bytes(replace(adapter, config=with_config(**wrong)))
    with rejected(ErrorCode.E203):
        config_to_json(with_config(training={1: "a number as a key would come back as text"}))


@pytest.mark.spec("CFG-5")
def test_absent_keys_take_the_defaults() -> None:
    needed = ("spec_version", "method", "name", "hidden_size", "projection", "sites")
    config = config_from_json(json.dumps({key: GOOD[key] for key in needed}))
    assert (config.bias_down, config.scaling, config.backbone, config.overrides) == (True, 1.0, None, ())


@pytest.mark.spec("FMT-29", "FMT-31")
def test_the_canonical_text_does_not_depend_on_order_spacing_or_the_kind_of_number() -> None:
    text = config_to_json(CONFIG)
    shuffled = json.dumps(dict(reversed(GOOD.items())) | {"scaling": 1}, indent=3)
    assert config_to_json(config_from_json(shuffled)) == text
    for scaling in (1, np.float64(1.0), np.float32(1.0)):
        assert config_to_json(with_config(scaling=scaling)) == text
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert "größer" in text
    assert NORM in text
