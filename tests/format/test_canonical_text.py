"""Numbers and strings of the canonical configuration, against the rules written out once more."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compacter_core.errors import ErrorCode
from compacter_core.format.config_json import config_from_json, config_to_json
from compacter_core.format.writer import adapter_bytes
from tests.format.builders import make_adapter, rejected, split, with_config

SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}

characters = st.characters(exclude_categories=["Cs"])


def escaped(text: str) -> str:
    """A string as FMT-30 writes it."""
    return '"' + "".join(SHORT.get(c, c if c >= " " else f"\\u00{ord(c):02x}") for c in text) + '"'


def written(value: float) -> str:
    """A number as FMT-32 writes it, from the shortest digits that NumPy finds."""
    digits, _, exponent = np.format_float_scientific(abs(value), unique=True, trim="-", exp_digits=1).partition("e")
    digits, x = digits.replace(".", ""), int(exponent)
    sign = "-" if np.signbit(value) else ""
    if not -4 <= x < 16:
        point = "." if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{point}{digits[1:]}e{'-' if x < 0 else '+'}{abs(x):02d}"
    if x < 0:
        return f"{sign}0.{'0' * (-x - 1)}{digits}"
    digits = digits.ljust(x + 1, "0")
    return f"{sign}{digits[: x + 1]}.{digits[x + 1 :] or '0'}"


def in_training(value: object) -> str:
    """The text of a value under `training` in a canonical configuration."""
    text = config_to_json(with_config(training={"value": value}))
    return text[text.rindex('{"value":') + len('{"value":') :].removesuffix("}}")


@pytest.mark.spec("FMT-32")
@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1.0)
@example(-0.0)
@example(0.0001)
@example(9.999999999999999e-05)
@example(9999999999999998.0)
@example(1e16)
@example(1e-5)
@example(2.5e16)
@example(5e-324)
@example(1.7976931348623157e308)
def test_floating_point_numbers(value: float) -> None:
    assert in_training(value) == written(value)


@pytest.mark.spec("FMT-31")
def test_scaling_is_a_floating_point_number_and_other_numbers_stay_what_they_are() -> None:
    text = config_to_json(config_from_json(config_to_json(with_config()).replace('"scaling":1.0', '"scaling":2')))
    assert '"scaling":2.0' in text
    assert in_training([1, 1.0, -0, -0.0, 10**15, 1e15]) == "[1,1.0,0,-0.0,1000000000000000,1000000000000000.0]"
    literals = config_to_json(with_config(training={"value": "HERE"})).replace('"HERE"', "[-0,-0.0,1E2,1.50,0.5e1]")
    assert '"value":[0,-0.0,100.0,1.5,5.0]' in config_to_json(config_from_json(literals))


@pytest.mark.spec("FMT-30")
@given(st.text(characters))
@example("".join(map(chr, range(0x80))))
@example("\u2028\u2029\ufeff\U0001f600/é\x7f")
def test_strings(text: str) -> None:
    assert in_training(text) == escaped(text)


@pytest.mark.spec("CFG-19", "FMT-33")
def test_what_a_reader_may_refuse_is_not_written() -> None:
    present = sum(config_to_json(with_config(training={})).count(mark) for mark in ",[{")
    fits = [0] * (65_536 - present)  # the commas between them, and the bracket
    assert config_to_json(with_config(training={"x": fits}))
    with rejected(ErrorCode.E202):
        config_to_json(with_config(training={"x": [*fits, 0]}))


@pytest.mark.spec("FMT-29", "FMT-30")
def test_the_configuration_is_escaped_once_more_in_the_header() -> None:
    config = with_config(
        method='a"\\\n\x1f\x7fé😀', training={"é": 1, "z": 2, "😀": 3, "\uff00": 4, "B": {"b": 1, "a": 2}}
    )
    data = adapter_bytes(make_adapter(config))
    assert f'"compacter.config":{escaped(config_to_json(config))},'.encode() in data
    assert split(data)[0]["__metadata__"]["compacter.config"] == config_to_json(config)
    keys = list(json.loads(config_to_json(config))["training"])
    assert keys == ["B", "z", "é", "\uff00", "😀"], "by code point, which UTF-16 orders otherwise"
    assert '"B":{"a":2,"b":1}' in config_to_json(config)
