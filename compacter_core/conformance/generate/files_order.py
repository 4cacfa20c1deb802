"""Files that break two rules, in different steps of the order of checks, which decides about the code (ERR-4).

Rules of one step may be checked in any order, unless the specification says otherwise; no case is about those.
"""

from dataclasses import replace
from typing import Any, Final

from compacter_core.conformance.generate.files_backbones import CONFIG as MATCHED
from compacter_core.conformance.generate.files_backbones import WEIGHT, Fit, draw
from compacter_core.conformance.generate.files_bytes import (
    JsonObject,
    RawFile,
    RawTensor,
    assemble,
    canonical_order,
    minified,
)
from compacter_core.conformance.generate.files_collector import Collector
from compacter_core.conformance.generate.files_containers import BODY, DOWN, HEADER, UP
from compacter_core.conformance.generate.files_samples import config_of, head_of, sample

ORDER: Final = ("ERR-4",)
CONFIG: Final[JsonObject] = config_of(head=head_of())


def add_order(cases: Collector) -> None:
    """Add the files that break a rule of one step and one of a later step."""
    _add_containers(cases)
    _add_entries(cases)
    _add_adapters(cases)
    _add_backbones(cases)


def _refuse(cases: Collector, code: str, later: str, file: bytes | RawFile, comment: str) -> None:
    cases.refuse(code, f"before-{later.lower()}", file, f"{comment} {code} comes first.", statements=ORDER)


def _add_containers(cases: Collector) -> None:
    shifted = {**HEADER[UP], "data_offsets": [16, 24]}
    for code, header, body, comment in (
        ("E105", {DOWN: HEADER[DOWN], UP: shifted}, bytes(24), "A gap between tensors, and no metadata."),
        ("E101", {DOWN: HEADER[DOWN], UP: HEADER[UP]}, BODY[:-1], "The last byte is missing, and the metadata too."),
        ("E110", {DOWN: {**HEADER[DOWN], "dtype": "I8"}, UP: HEADER[UP]}, BODY, "An unknown type, and no metadata."),
    ):
        _refuse(cases, code, "E201", assemble(minified(header), body), comment)
    foreign = {**HEADER["__metadata__"], "compacter.config": "{", "compacter.signature": "x"}
    data = assemble(minified({**HEADER, "__metadata__": foreign}), BODY)
    _refuse(cases, "E205", "E203", data, "Unknown metadata, and a configuration that is not JSON.")


def _add_entries(cases: Collector) -> None:
    """Two faults in one entry, whose parts have an order: name, keys, type, shape, offsets, size."""

    def entry(name: str = DOWN, **changes: Any) -> bytes:
        fields = {**HEADER[DOWN], **changes}
        header = {(name if key == DOWN else key): fields if key == DOWN else value for key, value in HEADER.items()}
        return assemble(minified(header), BODY)

    _refuse(cases, "E109", "E111", entry("a/b", strides=[1]), "A name with a slash, and an unknown field.")
    _refuse(cases, "E111", "E110", entry(dtype="I8", strides=[1]), "An unknown field, and an unknown type.")
    _refuse(cases, "E110", "E107", entry(dtype="I8", shape=[0]), "An unknown type, and a dimension of 0.")
    _refuse(cases, "E107", "E105", entry(shape=[0], data_offsets=[8, 0]), "A dimension of 0, and offsets reversed.")
    _refuse(cases, "E105", "E106", entry(shape=[3], data_offsets=[8, 0]), "Offsets reversed, and another size.")


def _add_adapters(cases: Collector) -> None:
    file = sample(CONFIG)
    left, bias = "site.encoder.0.ffn.down.W_left", "site.encoder.0.ffn.up.b"
    nan = replace(file.tensors[left], data=b"\0\0\xc0\x7f" * 4)
    half = RawTensor("F16", (4,), bytes(8))

    def put(**tensors: RawTensor) -> RawFile:
        changed = {{"left": left, "bias": bias}[key]: tensor for key, tensor in tensors.items()}
        return replace(file, tensors=canonical_order({**file.tensors, **changed}))

    missing = {name: tensor for name, tensor in file.tensors.items() if name != bias}
    unknown = replace(file, config={**CONFIG, "dropout": 0.1}, tensors=missing)
    _refuse(cases, "E205", "E301", unknown, "An unknown key, and a tensor missing.")
    uneven = replace(put(left=nan), config={**CONFIG, "projection": {"kind": "phm", "phm_dim": 3}})
    _refuse(cases, "E207", "E306", uneven, "phm_dim does not divide, and a NaN.")
    _refuse(cases, "E305", "E306", put(left=nan, bias=half), "A tensor of another type, and a NaN.")
    comment = "A NaN, and a profile with another configuration. E306 comes first."
    other = minified({**CONFIG, "method": "other"}).encode()
    cases.refuse("E306", "before-e206", put(left=nan), comment, statements=ORDER, profile=other)
    tail = file.encoded() + b"\0"
    cases.refuse("E105", "before-e206", tail, "A byte left, and another profile.", statements=ORDER, profile=other)


def _add_backbones(cases: Collector) -> None:
    """Parts of the comparison with a backbone have an order too."""
    fit = Fit.of(MATCHED, (6, 4))
    foreign = fit.put(WEIGHT, draw(24, 50))
    gone = {name: tensor for name, tensor in foreign.weights.items() if name != "layer.0.norm.weight"}
    pre, other = {"norm_style": "pre"}, {"model_type": "gpt"}
    for code, later, changed, backbone, comment in (
        ("E401", "E402", fit, {**pre, **other}, "Another architecture, and another norm style."),
        ("E402", "E403", foreign, pre, "Another norm style, and other weights."),
        ("E403", "E404", replace(fit, weights=gone), {}, "Other weights, and a norm missing."),
        (
            "E204",
            "E401",
            replace(fit, file=replace(fit.file, version="2.0")),
            other,
            "Another version and architecture.",
        ),
    ):
        described = {**fit.backbone, **backbone}
        full = f"{comment} {code} comes first."
        name = f"before-{later.lower()}"
        cases.match(name, changed.file, changed.weights, described, full, code=code, statements=ORDER)
