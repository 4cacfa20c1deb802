"""Files that have to be read although nobody writes them so: every liberty that JSON and the container leave."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from compacter_core.conformance.generate.files_bytes import (
    RawFile,
    Recipe,
    assemble,
    header_of,
    length_field,
    minified,
    raw,
    text,
)
from compacter_core.conformance.generate.files_collector import Collector
from compacter_core.conformance.generate.files_samples import config_of, full_config, head_of, sample, site
from compacter_core.conformance.generate.files_statements import CONTAINER, LIMITS, NAMES, PROFILE, TEXTS, VERSIONS
from compacter_core.conformance.words import Flag

MAX_HEADER: Final = 16 * 2**20
MAX_CONFIG: Final = 2**20
PICKLE_LENGTH: Final = 0x0280
"""A header of this length makes a file begin with the bytes of a pickle, 80 02."""

FILE: Final = sample(config_of())


def add_liberties(cases: Collector) -> None:
    """Add files whose bytes are not canonical but right."""
    _add_texts(cases)
    _add_containers(cases)
    _add_versions(cases)
    _add_limits(cases)
    _add_profiles(cases)


def _add_texts(cases: Collector) -> None:
    """The configuration's JSON, written in other ways."""
    config = full_config(head=head_of(labels=["no", "größer", 'tab\tquote"\\']))
    texts = {
        "keys-reversed": (json.dumps(dict(reversed(config.items()))), "Keys in any order."),
        "indented": (json.dumps(config, indent=2), "White space between tokens."),
        "surrounded": (f" \t\r\n{minified(config)}\r\n ", "White space around the text."),
        "escaped": (json.dumps(config, ensure_ascii=True), "Every character beyond ASCII as an escape."),
        "key-escaped": (minified(config).replace('"method"', '"\\u006dethod"'), "A key with an escape in it."),
        "slash-escaped": (minified(config).replace("someone/tiny", "someone\\/tiny"), "The escape of a slash."),
        "number-spelt": (minified(config).replace('"scaling":0.5', '"scaling":5.0E-1'), "0.5 as 5.0E-1."),
    }
    for name, (spelling, comment) in texts.items():
        file = replace(sample(config), config=spelling)
        cases.accept(f"text/{name}", file, TEXTS, comment)
    pair = config_of(method="clef \U0001d11e")
    escaped = json.dumps(pair, ensure_ascii=True)
    cases.accept(
        "text/surrogate-pair", replace(sample(pair), config=escaped), TEXTS, "A pair of surrogates is a letter."
    )
    brackets = config_of(method='\\"' + "[{" * 40 + '"')
    cases.accept("text/brackets-in-a-string", sample(brackets), TEXTS, "Brackets in strings are no nesting.")


def _add_containers(cases: Collector) -> None:
    """The container, written in other ways."""
    header, body = FILE.parts()
    others = {name: value for name, value in header.items() if name != "__metadata__"}
    last = {**others, "__metadata__": header["__metadata__"]}
    flipped = {name: dict(reversed(value.items())) for name, value in header.items()}
    one = "site.encoder.0.ffn.up.b"
    shuffled = replace(FILE, tensors=dict(reversed([*FILE.tensors.items()])))
    accept = cases.accept
    accept("container/order", shuffled, CONTAINER, "Tensors in another order than the canonical one.")
    for name, spelling, comment in (
        ("unpadded", minified(header), "The header's length is no multiple of 8."),
        ("padded", minified(header) + " " * 1001, "Many spaces after the header."),
        ("white-space", json.dumps(header, indent=1) + "\n\t\r ", "White space in and after the header."),
        ("metadata-last", minified(last), "The metadata stands behind the tensors."),
        ("names-unsorted", minified(dict(reversed(header.items()))), "Entries in another order than their bytes."),
        ("fields-reversed", minified(flipped), "Fields of an entry and metadata in another order."),
        ("name-escaped", minified(header).replace(f'"{one}"', '"\\u0073ite.encoder.0.ffn.up.b"'), "A name escaped."),
        ("ascii", json.dumps(header, ensure_ascii=True), "The header in ASCII."),
    ):
        accept(f"container/{name}", FILE, CONTAINER, comment, data=assemble(spelling, body))
    foreign = replace(FILE, metadata={"format": "pt", "zzz": "größer", "compacter-tool": "x"})
    accept("container/foreign-metadata", foreign, CONTAINER, "Metadata of other tools.")
    _add_pickle_like(cases)
    _add_names(cases)


def _add_pickle_like(cases: Collector) -> None:
    small = sample(
        config_of(projection={"kind": "dense"}, bias_down=False, bias_up=False, sites=[site(0, 1)], hidden_size=1)
    )
    header, body = small.parts()
    padded = minified(header).ljust(PICKLE_LENGTH)
    if len(padded) != PICKLE_LENGTH:
        raise ValueError(f"the header has {len(padded)} bytes")
    comment = "The file begins with a pickle's bytes 80 02, but at byte 8 stands the brace of a header."
    cases.accept("container/length-like-a-pickle", small, CONTAINER, comment, data=assemble(padded, body))


def _add_names(cases: Collector) -> None:
    names = {
        "long": ("x" * 503, "A name of 512 bytes."),
        "characters": ("A-Z_a-z.0-9.-._.x", "Every kind of character that a name may have."),
    }
    for label, (name, comment) in names.items():
        file = sample(config_of(overrides=[{"name": name, "kind": "head"}]))
        cases.accept(f"name/{label}", file, NAMES, comment)
    factors = [{"name": f"dense.{short}", "kind": "head"} for short in ("W", "W_left", "phm_rule", "phm_rule_left")]
    file = sample(config_of(overrides=factors))
    cases.accept("name/of-a-backbone", file, NAMES, "Names of the backbone's own mean nothing here.")
    shapes: Mapping[str, list[int]] = {"a.weight": [1], "b.weight": [1, 2, 1, 2]}
    file = sample(config_of(head=head_of(layers=["b", "a"], shapes=dict(shapes))))
    cases.accept("name/ranks", file, NAMES, "Tensors of one and of four dimensions.")


def _add_versions(cases: Collector) -> None:
    for version in ("1.7", "1.999999"):
        file = replace(sample(config_of(spec_version=version)), version=version)
        cases.accept(f"version/{version}", file, VERSIONS, "A later minor version.")


def _add_limits(cases: Collector) -> None:
    """What just fits; the files beyond each limit are among the refused ones."""
    header, body = FILE.parts()
    spelling = minified(header)
    spaces = text(" ", MAX_HEADER - len(spelling.encode()))
    recipe = Recipe((raw(length_field(MAX_HEADER)), text(spelling), spaces, raw(body)))
    limits = frozenset({Flag.LIMITS})
    cases.accept("limit/header", FILE, LIMITS, "A header of exactly 16 MiB.", data=recipe, flags=limits)
    recipe = config_recipe(FILE, " ", MAX_CONFIG - len(FILE.config_text.encode()))
    cases.accept("limit/configuration", FILE, LIMITS, "A configuration of exactly 1 MiB.", data=recipe, flags=limits)
    deep = config_of(training={"x": nested(14)})
    cases.accept("limit/depth", sample(deep), LIMITS, "A configuration nested exactly 16 deep.")


def _add_profiles(cases: Collector) -> None:
    config = full_config()
    file = sample(config)
    spellings = {
        "same-text": (file.config_text, "The same text."),
        "other-text": (
            json.dumps(dict(reversed(config.items())), indent=2) + "\n",
            "Equal as JSON, written otherwise.",
        ),
    }
    for name, (spelling, comment) in spellings.items():
        cases.accept(f"profile/{name}", file, PROFILE, comment, profile=spelling.encode())
    short = config_of()
    explicit = minified(short | {"bias_down": True, "scaling": 1.0, "overrides": []})
    comment = "Equal once the defaults are filled in."
    cases.accept("profile/defaults", sample(short), PROFILE, comment, profile=explicit.encode())


def nested(depth: int) -> object:
    """Lists inside each other."""
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def config_recipe(file: RawFile, character: str, times: int, *, at: str = "") -> Recipe:
    """The file with a character, repeated, in its configuration's text: before `at`, which ends it or is in it once."""
    mark = "<mark>"
    position = file.config_text.rindex(at)
    marked = replace(file, config=file.config_text[:position] + mark + file.config_text[position:])
    header, body = header_of(marked.all_metadata, marked.tensors)
    before, after = minified(header).split(mark)
    length = len(before.encode()) + len(character.encode()) * times + len(after.encode())
    return Recipe((raw(length_field(length)), text(before), text(character, times), text(after), raw(body)))
