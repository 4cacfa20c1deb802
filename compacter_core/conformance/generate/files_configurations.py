"""Files whose configuration is wrong, in one place each (FMT-16 to FMT-18, CFG-1 to CFG-18, FMT-35, VER-1, VER-2)."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from compacter_core.conformance.generate.files_bytes import JsonObject, container, minified
from compacter_core.conformance.generate.files_collector import Collector
from compacter_core.conformance.generate.files_liberties import MAX_CONFIG, config_recipe, nested
from compacter_core.conformance.generate.files_misshapen import CHANGES, TEXTS
from compacter_core.conformance.generate.files_samples import backbone_of, config_of, head_of, sample
from compacter_core.conformance.words import Flag

CONFIG: Final[JsonObject] = config_of(
    non_linearity="relu",
    scaling=0.5,
    attach={"input": "sublayer_output", "skip": "sublayer_output", "post": True},
    backbone=backbone_of(norms=["layer.0.norm"]),
    overrides=[{"name": "layer.0.norm.weight", "kind": "norm"}],
    head=head_of(labels=["a", "b", "c"]),
    training={"seeds": [0]},
    extensions={"tool": {"must_understand": False}},
)
"""Every optional part is there, to be broken."""

FILE: Final = sample(CONFIG)
LIMITS: Final = frozenset({Flag.LIMITS})


def add_configurations(cases: Collector) -> None:
    """Add the files refused with E201 to E211, and with E401, E404 and E405 for what a configuration says."""
    _add_metadata(cases)
    _add_limits(cases)
    for name, (spelling, comment) in TEXTS.items():
        cases.refuse("E203", f"text/{name}", replace(FILE, config=spelling), comment, statements=("CFG-2",))
    for code, statements, name, change, comment in CHANGES:
        changed = replace(FILE, config=json.dumps(change(json.loads(FILE.config_text))))
        cases.refuse(code, name, changed, comment, statements=statements)
    _add_versions(cases)
    _add_profiles(cases)


def _add_metadata(cases: Collector) -> None:
    cases.refuse("E201", "no-metadata", container(None, FILE.tensors), "No __metadata__.")
    cases.refuse("E201", "empty", container({}, FILE.tensors), "An empty __metadata__.")
    foreign = container({"format": "pt"}, FILE.tensors)
    cases.refuse("E201", "foreign", foreign, "The metadata of another tool only.")
    for key in FILE.all_metadata:
        kept = {name: value for name, value in FILE.all_metadata.items() if name != key}
        name = f"no-{key.removeprefix('compacter.').replace('_', '-')}"
        cases.refuse("E201", name, container(kept, FILE.tensors), f"No {key}.")
    signed = replace(FILE, metadata={"compacter.signature": "x"})
    cases.refuse(
        "E205", "metadata", signed, "A key of the metadata that begins with compacter.", statements=("FMT-17",)
    )


def _add_limits(cases: Collector) -> None:
    over = MAX_CONFIG + 1 - len(FILE.config_text.encode())
    recipe = config_recipe(FILE, " ", over)
    cases.refuse("E202", "one-byte-over", recipe, "A configuration of 1 MiB and one byte.", flags=LIMITS)
    spelling = minified({**CONFIG, "method": "<here>"}).split("<here>")
    letters = (MAX_CONFIG - len("".join(spelling).encode())) // 2 + 1
    wide = replace(FILE, config="ß".join(spelling))
    recipe = config_recipe(wide, "ß", letters - 1, at="ß")
    comment = "Over 1 MiB in UTF-8, although it has fewer characters."
    cases.refuse("E202", "bytes-not-characters", recipe, comment, flags=LIMITS)
    deep = config_of(training={"x": nested(15)})
    cases.refuse("E202", "depth-17", sample(deep), "Nested 17 levels deep.")
    objects = config_of(training={"x": {"x": {"x": {"x": {"x": {"x": {"x": {"x": nested(8)}}}}}}}})
    cases.refuse("E202", "depth-17-mixed", sample(objects), "Nested 17 levels deep, in objects and lists.")
    before, after = minified({**CONFIG, "training": {"x": "<here>"}}).split('"<here>"')
    bomb = config_recipe(replace(FILE, config=before + "[" + after), "[", 199_999, at="[" + after)
    statements = ("CFG-1", "SEC-2", "SEC-7")
    comment = "200,000 open brackets."
    cases.refuse("E202", "depth-bomb", bomb, comment, statements=statements, flags=LIMITS)
    for name, number in NUMBERS.items():
        text = minified({**CONFIG, "scaling": "<here>"}).replace('"<here>"', number)
        cases.refuse("E202", f"number/{name}", replace(FILE, config=text), f"The number {number[:20]}.")
    inside = minified({**CONFIG, "training": {"x": "<here>"}}).replace('"<here>"', "NaN")
    cases.refuse("E202", "number/nan-in-training", replace(FILE, config=inside), "NaN where any JSON may stand.")


NUMBERS: Final[Mapping[str, str]] = {
    "nan": "NaN",
    "infinity": "Infinity",
    "minus-infinity": "-Infinity",
    "1e999": "1e999",
    "minus-1e999": "-1e999",
    "2-to-the-53": "9007199254740992",
    "minus-2-to-the-53": "-9007199254740992",
    "400-digits": "9" * 400,
}


def _add_versions(cases: Collector) -> None:
    for name, version in (
        ("2.0", "2.0"),
        ("0.9", "0.9"),
        ("10.0", "10.0"),
        ("one-number", "1"),
        ("three-numbers", "1.0.0"),
        ("leading-zero", "01.0"),
        ("leading-zero-minor", "1.00"),
        ("letter", "1.x"),
        ("empty", ""),
        ("space", "1.0 "),
        ("line-feed", "1.0\n"),
        ("seven-digits", "1.1000000"),
        ("foreign-digit", "1.\u0660"),
    ):
        statements: tuple[str, ...] = ("VER-2",) if name in ("2.0", "0.9", "10.0") else ("VER-1",)
        file = replace(FILE, config={**CONFIG, "spec_version": version}, version=version)
        cases.refuse("E204", f"version/{name}", file, f"The version {json.dumps(version)}.", statements=statements)
    for name, value in (("number", 1.0), ("null", None), ("list", ["1.0"])):
        file = replace(FILE, config={**CONFIG, "spec_version": value})
        cases.refuse("E204", f"type/{name}", file, f"{json.dumps(value)} as spec_version.", statements=("CFG-4",))
    missing = {key: value for key, value in CONFIG.items() if key != "spec_version"}
    cases.refuse("E204", "missing", replace(FILE, config=missing), "No spec_version.", statements=("CFG-4",))
    for name, version in (("newer", "1.1"), ("other-major", "2.0")):
        comment = f"The metadata says {version} and the configuration 1.0."
        statements = ("FMT-18",) if name == "newer" else ("VER-2", "FMT-18")
        cases.refuse("E204", f"metadata/{name}", replace(FILE, version=version), comment, statements=statements)
    later = replace(FILE, config="name = tiny", version="2.0")
    comment = "Another major version may have another configuration than JSON: its number is looked at first."
    cases.refuse("E204", "order/metadata-first", later, comment, statements=("VER-2", "ERR-4"))
    strange = replace(FILE, config={"spec_version": "2.0", "everything": "new"}, version="2.0")
    comment = "Another major version may have other keys: its number is looked at first."
    cases.refuse("E204", "order/before-keys", strange, comment, statements=("VER-2", "ERR-4"))
    file = replace(FILE, config={**CONFIG, "spec_version": "1.1", "gate": "sigmoid"}, version="1.1")
    comment = "A file of a later minor version that uses something new."
    cases.refuse("E205", "later-minor-version", file, comment, statements=("VER-3", "CFG-3"))


def _add_profiles(cases: Collector) -> None:
    def other(**changes: Any) -> bytes:
        return minified({**CONFIG, **changes}).encode()

    for name, profile, comment in (
        ("label", other(method="other"), "A label differs, which decides nothing."),
        ("scaling", other(scaling=0.25), "A number differs."),
        ("default", other(attach={"input": "residual"}), "A key has its default in one and not in the other."),
        ("training", other(training={"seeds": [1]}), "What training says differs."),
        ("number-or-boolean", other(training={"seeds": [False]}), "false is not 0."),
    ):
        cases.refuse("E206", name, FILE, comment, profile=profile)
    for code, name, profile, comment in (
        ("E203", "not-json", b"name = tiny", "The copy is not JSON."),
        ("E203", "not-utf-8", b"\xff" + FILE.config_text.encode(), "The copy is not UTF-8."),
        ("E104", "duplicate", FILE.config_text.replace('"name"', '"name":"tiny","name"').encode(), "A key twice."),
        ("E205", "unknown-key", other(dropout=0.1), "A key that does not exist."),
        ("E207", "division", other(projection={"kind": "phm", "phm_dim": 3}), "phm_dim does not divide."),
    ):
        cases.refuse(code, f"profile/{name}", FILE, comment, statements=("FMT-35",), profile=profile)
