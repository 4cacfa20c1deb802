"""Adapters to be written: the one right sequence of bytes, and what a writer has to refuse (FMT-27 to FMT-34)."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from compacter_core.conformance.case import Expectation
from compacter_core.conformance.generate.files_bytes import (
    JsonObject,
    RawFile,
    RawTensor,
    canonical_order,
    container,
    pack,
)
from compacter_core.conformance.generate.files_canonical import canonical_bytes, canonical_text
from compacter_core.conformance.generate.files_collector import Collector
from compacter_core.conformance.generate.files_liberties import nested
from compacter_core.conformance.generate.files_samples import (
    backbone_of,
    config_of,
    full_config,
    head_of,
    numbers,
    sample,
    site,
)
from compacter_core.conformance.generate.files_valid import EXTREMES, OPTIONS, PROJECTIONS
from compacter_core.conformance.words import Op

SMALL: Final[JsonObject] = config_of(
    projection={"kind": "dense"}, sites=[site(0, 1)], hidden_size=1, bias_down=False, bias_up=False
)
BYTES: Final = ("FMT-27", "FMT-28", "FMT-29")
NUMBERS: Final[Mapping[str, tuple[float | int, str]]] = {
    "tenth": (0.1, "0.1"),
    "half": (-0.5, "-0.5"),
    "one": (1.0, "1.0"),
    "integer": (4, "4.0"),
    "zero": (0, "0.0"),
    "minus-zero": (-0.0, "-0.0"),
    "third": (1 / 3, "0.3333333333333333"),
    "sum-of-tenths": (0.1 + 0.2, "0.30000000000000004"),
    "1e-4": (1e-4, "0.0001"),
    "1e-5": (1e-5, "1e-05"),
    "1.5e-5": (1.5e-5, "1.5e-05"),
    "1e-7": (1e-7, "1e-07"),
    "1e15": (1e15, "1000000000000000.0"),
    "1e16": (1e16, "1e+16"),
    "1e22": (1e22, "1e+22"),
    "2.5e16": (2.5e16, "2.5e+16"),
    "2-to-the-53": (2.0**53, "9007199254740992.0"),
    "123456789": (123456789.0, "123456789.0"),
    "1e100": (1e100, "1e+100"),
    "1e-100": (1e-100, "1e-100"),
    "smallest": (5e-324, "5e-324"),
    "smallest-normal": (2.0**-1022, "2.2250738585072014e-308"),
    "largest": ((2.0 - 2.0**-52) * 2.0**1023, "1.7976931348623157e+308"),
    "nearest-of-two": (9007199254740993.0, "9007199254740992.0"),
    "shortest": (5e-5, "5e-05"),
}
"""A scaling and the text that has to be written for it (FMT-31, FMT-32)."""


def add_writing(cases: Collector) -> None:
    """Add the cases of `write`."""
    _add_kinds(cases)
    _add_numbers(cases)
    _add_texts(cases)
    _add_orders(cases)
    _add_refused(cases)


def _write(
    cases: Collector,
    name: str,
    config: JsonObject,
    file: RawFile,
    comment: str,
    *,
    statements: tuple[str, ...],
    dtype: str = "F32",
    code: str | None = None,
    config_text: str | None = None,
) -> None:
    """The tensors come in the reverse of the right order."""
    case_id = f"write/{name}" if code is None else f"write/{code.lower()}/{name}"
    shuffled = dict(reversed([*file.tensors.items()]))
    files = {"tensors": cases.store(f"{case_id}.tensors", container(None, shuffled))}
    expect = Expectation(code=code)
    if code is None:
        expect = Expectation(file=cases.store(case_id, canonical_bytes(config, file.tensors, text=config_text)))
    cases.add(case_id, Op.WRITE, expect, statements, comment, files=files, args={"config": config, "dtype": dtype})


def _add_kinds(cases: Collector) -> None:
    for name, projection in PROJECTIONS.items():
        k = 4 if name == "lphm-n-is-d" else 2
        config = config_of(projection=dict(projection), sites=[site(1, k), site(0, k)])
        _write(cases, f"projection/{name}", config, sample(config), f"The projection {name}.", statements=BYTES)
    for name in ("no-biases", "scaling-learned", "scaling-channel", "site-in-layer-99999", "extension-to-be-ignored"):
        config = config_of(**OPTIONS[name])
        _write(cases, f"option/{name}", config, sample(config), f"The option {name}.", statements=BYTES)
    for dtype in ("F64", "F32", "F16", "BF16"):
        config = full_config()
        file = sample(config, dtype=dtype, sketches=True)
        comment = f"An adapter of type {dtype} with sketches of type F32: the wider tensors come first."
        _write(
            cases, f"dtype/{dtype.lower()}", config, file, comment, statements=(*BYTES, "SKT-2", "CNV-4"), dtype=dtype
        )
        extreme = RawTensor.of(dtype, (2,), EXTREMES[dtype])
        file = replace(file, tensors={**file.tensors, "site.encoder.0.ffn.down.b": extreme})
        comment = "The smallest and the largest number."
        _write(
            cases, f"dtype/{dtype.lower()}-extremes", config, file, comment, statements=("FMT-27", "CNV-4"), dtype=dtype
        )


def _add_numbers(cases: Collector) -> None:
    for name, (value, spelling) in NUMBERS.items():
        changed = {**SMALL, "scaling": value}
        comment = f"A scaling that is written {spelling}."
        text = _text_with(changed, spelling)
        _write(
            cases,
            f"number/{name}",
            changed,
            sample(changed),
            comment,
            statements=("FMT-31", "FMT-32"),
            config_text=text,
        )
    training = {"integers": [0, -1, 9_007_199_254_740_991, -9_007_199_254_740_991], "floats": [0.5, -1e-9, 1e300]}
    changed = {**SMALL, "training": training}
    _write(
        cases, "number/in-training", changed, sample(changed), "Numbers in training.", statements=("FMT-31", "FMT-32")
    )


def _text_with(config: JsonObject, scaling: str) -> str:
    """The canonical text with a number in the place of the scaling that was written down by hand."""
    mark = "<scaling>"
    return canonical_text({**config, "scaling": mark}).replace(f'"{mark}"', scaling)


def _add_texts(cases: Collector) -> None:
    for name, method, comment in (
        ("unicode", "größer 肯定 \U0001d11e", "Letters beyond ASCII are written as themselves."),
        ("escapes", 'a"b\\c/d', "A quote and a backslash are escaped, a slash is not."),
        ("controls", "\b\t\n\f\r\x00\x01\x1b\x1f", "Control characters have escapes."),
        ("delete-and-separators", "\x7f\x80\u2028\u2029\ufeff", "Other invisible characters are written as they are."),
        ("html", "<a href='x'>&</a>", "No other escapes."),
        ("empty", "", "An empty string."),
    ):
        config = {**SMALL, "method": method}
        _write(cases, f"text/{name}", config, sample(config), comment, statements=("FMT-30",))


def _add_orders(cases: Collector) -> None:
    """Keys and names in their order, defaults filled in."""
    keys = ("b", "a", "B", "é", "\uff61", "\U0001d11e", "", "10", "9")
    order: JsonObject = {key: number for number, key in enumerate(keys)} | {"aa": {"z": 0, "y": 1}}
    extensions = {"z": {"must_understand": False, "b": 0, "a": 1}, "a": IGNORED}
    head_names = [{"name": name, "kind": "head"} for name in ("a.b", "a-b", "a_b", "aB", "a.b.c", "a", "A", "Z", "0")]
    attach = {"input": "normed_sum", "skip": "normed_sum", "post": False}
    own = config_of(attach=attach, sites=[site(0, attach={}), site(1, attach={"input": "residual"})])
    explicit = config_of(bias_down=True, scaling=1, overrides=[], attach={"post": True}, backbone=backbone_of(norms=[]))
    for name, config, comment, statements in (
        (
            "key-order",
            {**SMALL, "training": order, "extensions": extensions},
            "Keys sorted by code point at every level: U+FF61 before U+1D11E.",
            ("FMT-29", "CFG-6"),
        ),
        ("name-order", config_of(overrides=head_names), "Names in the order of their bytes.", ("FMT-27",)),
        ("defaults", explicit, "Defaults, written and left out.", ("FMT-29", "FMT-34")),
        ("attach-of-a-site", own, "A site's attach with its own defaults.", ("FMT-29", "PLC-7")),
        ("later-minor-version", config_of(spec_version="1.7"), "The version stays.", ("VER-4", "FMT-28")),
    ):
        _write(cases, f"text/{name}", config, sample(config), comment, statements=statements)


IGNORED: Final[Mapping[str, Any]] = {"must_understand": False, "list": [1, "a", None, True]}


def _add_refused(cases: Collector) -> None:
    """What a reader would refuse is not written (FMT-33)."""
    config = config_of(head=head_of())
    file = sample(config, sketches=True)
    left, bias = "site.encoder.0.ffn.down.W_left", "site.encoder.0.ffn.up.b"
    nan = replace(file.tensors[bias], data=file.tensors[bias].data[:-4] + b"\0\0\xc0\x7f")
    infinite = replace(file.tensors[left], data=pack("F32", [math.inf, 0.0, 0.0, 0.0]))
    for code, name, tensors in (
        ("E303", "extra", {"site.encoder.9.ffn.down.b": RawTensor.of("F32", (2,), [1, 2])}),
        ("E304", "transposed", {left: replace(file.tensors[left], shape=(1, 2, 2))}),
        ("E305", "other-type", {bias: RawTensor.of("F16", (4,), numbers(4, 1))}),
        ("E306", "nan", {bias: nan}),
        ("E306", "infinity", {left: infinite}),
        ("E308", "both-forms", {"shared.phm_rule_left": RawTensor.of("F32", (2, 2, 1), numbers(4, 0))}),
    ):
        changed = replace(file, tensors=canonical_order({**file.tensors, **tensors}))
        _refuse(cases, code, name, config, changed)
    for code, name in (("E301", left), ("E301", "sketch.encoder.0.ffn.weight"), ("E302", "shared.phm_rule")):
        rest = {key: tensor for key, tensor in file.tensors.items() if key != name}
        _refuse(cases, code, name.lower(), config, replace(file, tensors=rest))
    changes: tuple[tuple[str, str, JsonObject], ...] = (
        ("E202", "depth", {"training": {"x": nested(15)}}),
        ("E203", "method", {"method": 1}),
        ("E204", "version", {"spec_version": "2.0"}),
        ("E205", "unknown-key", {"dropout": 0.1}),
        ("E207", "division", {"projection": {"kind": "phm", "phm_dim": 3}}),
        ("E208", "name", {"name": "../x"}),
        ("E209", "activation", {"non_linearity": "swish"}),
        ("E210", "attach", {"attach": {"post": False}}),
        ("E211", "site", {"sites": [site(0), site(0)]}),
    )
    for code, name, change in changes:
        _refuse(cases, code, name, config | change, file)


def _refuse(cases: Collector, code: str, name: str, config: JsonObject, file: RawFile) -> None:
    comment = "What a reader would refuse is not written."
    _write(cases, name, config, file, comment, statements=("FMT-33",), code=code)
