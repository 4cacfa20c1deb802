"""Files whose container is broken, in one place each (FMT-1 to FMT-15)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from compacter_core.conformance.generate.files_bytes import (
    JsonObject,
    Recipe,
    assemble,
    counted,
    length_field,
    minified,
    raw,
    text,
)
from compacter_core.conformance.generate.files_collector import Collector
from compacter_core.conformance.generate.files_liberties import MAX_HEADER, nested
from compacter_core.conformance.generate.files_samples import config_of, sample, site
from compacter_core.conformance.generate.files_statements import BY_CODE
from compacter_core.conformance.recipe import Segment
from compacter_core.conformance.words import Flag

FILE: Final = sample(
    config_of(projection={"kind": "dense"}, bias_down=False, bias_up=False, hidden_size=2, sites=[site(0, 1)])
)
DOWN: Final = "site.encoder.0.ffn.down.W"
UP: Final = "site.encoder.0.ffn.up.W"
"""The two tensors of the file, 8 bytes each, in this order."""

MAX_TENSORS: Final = 65_536
LIMITS: Final = frozenset({Flag.LIMITS})
HEADER: Final[JsonObject] = FILE.parts()[0]
BODY: Final[bytes] = FILE.parts()[1]


def add_containers(cases: Collector) -> None:
    """Add the files refused with E101 to E112."""
    _add_lengths(cases)
    _add_header_texts(cases)
    _add_duplicates(cases)
    _add_offsets(cases)
    _add_sizes(cases)
    _add_shapes(cases)
    _add_dtypes_and_fields(cases)
    _add_names(cases)
    _add_other_formats(cases)


def _entry(name: str, **changes: Any) -> JsonObject:
    """The header with some fields of one entry replaced."""
    return {**HEADER, name: {**HEADER[name], **changes}}


def _file(header: object, body: bytes = BODY) -> bytes:
    return assemble(minified(header), body)


def _add_lengths(cases: Collector) -> None:
    whole = FILE.encoded()
    end = len(whole) - len(BODY)
    for name, data, comment in (
        ("empty", b"", "No bytes at all."),
        ("7-bytes", whole[:7], "The length field itself is cut."),
        ("length-only", whole[:8], "The file ends behind the length field."),
        ("in-header", whole[: end - 1], "The file ends one byte before its header does."),
        ("no-tensors", whole[:end], "The file ends behind its header."),
        ("in-last-tensor", whole[:-1], "The last byte is missing."),
        ("length-too-large", length_field(len(whole) - 7) + whole[8:], "The header would end behind the file."),
    ):
        cases.refuse("E101", name, data, comment)
    spelling = minified(HEADER)
    spaces = text(" ", MAX_HEADER + 1 - len(spelling))
    recipe = Recipe((raw(length_field(MAX_HEADER + 1)), text(spelling), spaces, raw(BODY)))
    cases.refuse("E102", "one-byte-over", recipe, "A right header of 16 MiB and one byte.", flags=LIMITS)
    for name, length in (("2-to-the-63", 2**63), ("all-ones", 2**64 - 1)):
        comment = "An absurd length is a header over the limit: nothing may be computed with it before."
        data = length_field(length) + whole[8:]
        cases.refuse("E102", name, data, comment, statements=(*BY_CODE["E102"], "ERR-4"), flags=LIMITS)


def _add_header_texts(cases: Collector) -> None:
    spelling = minified(HEADER)
    first_name = f'"{DOWN}"'.encode()
    json_rules, numbers = ("FMT-3",), ("FMT-4",)
    wrong: Mapping[str, tuple[str | bytes, tuple[str, ...], str]] = {
        "not-utf-8": (spelling.encode().replace(first_name, first_name + b"\xff"), json_rules, "A stray byte FF."),
        "utf-8-overlong": (spelling.encode().replace(b"tiny", b"tin\xc1\xb9"), json_rules, "y in two bytes, C1 B9."),
        "utf-8-surrogate": (spelling.replace("tiny", "tin\ud800"), json_rules, "A surrogate, as ED A0 80."),
        "empty": (b"", json_rules, "A header of no bytes."),
        "array": (f"[{spelling}]", json_rules, "The object is in a list."),
        "leading-space": (" " + spelling, json_rules, "White space before the object."),
        "byte-order-mark": ("\ufeff" + spelling, json_rules, "A byte order mark before the object."),
        "unterminated": (spelling[:-1], json_rules, "The last brace is missing."),
        "two-objects": (spelling + "{}", json_rules, "A second object behind the first."),
        "bytes-behind": (spelling + "\0", json_rules, "A zero byte behind the object."),
        "trailing-comma": (spelling[:-1] + ",}", json_rules, "A comma behind the last entry."),
        "single-quotes": (spelling.replace('"shape"', "'shape'"), json_rules, "Strings in single quotes."),
        "comment": (spelling[:-1] + "/**/}", json_rules, "A comment."),
        "leading-zero": (spelling.replace('"shape":[2,1]', '"shape":[02,1]'), json_rules, "A number 02."),
        "control-character": (spelling.replace("tiny", "ti\nny"), json_rules, "A line feed in a string."),
        "metadata-list": (minified({**HEADER, "__metadata__": []}), ("FMT-6",), "The metadata is a list."),
        "metadata-null": (minified({**HEADER, "__metadata__": None}), ("FMT-6",), "The metadata is null."),
        "metadata-number": (_metadata(format=1), ("FMT-6",), "A value of the metadata is a number."),
        "metadata-object": (_metadata(more={}), ("FMT-6",), "A value of the metadata is an object."),
        "metadata-deep": (_metadata(more=nested(15)), numbers, "Nested 17 levels deep."),
        "nan": (_entry_text('"shape":[2,1]', '"shape":[NaN,1]'), numbers, "The word NaN."),
        "infinity": (_entry_text('"shape":[2,1]', '"shape":[-Infinity,1]'), numbers, "The word -Infinity."),
        "integer-2-to-the-53": (_entry_text("[0,8]", "[0,9007199254740992]"), numbers, "An integer over 2^53 - 1."),
        "number-1e999": (_entry_text("[0,8]", "[0,1e999]"), numbers, "A number over the largest double."),
    }
    for name, (header, statements, comment) in wrong.items():
        cases.refuse("E103", name, assemble(header, BODY), comment, statements=statements)
    depth = 200_000
    before, after = spelling[:-1] + ',"more":', "}"
    segments = (text(before), text("[", depth), text("]", depth), text(after), raw(BODY))
    length = len(before) + 2 * depth + len(after)
    bomb = Recipe((raw(length_field(length)), *segments))
    cases.refuse("E103", "depth-bomb", bomb, "200,000 brackets.", statements=("FMT-4", "SEC-2", "SEC-7"), flags=LIMITS)


def _metadata(**more: object) -> str:
    return minified({**HEADER, "__metadata__": {**HEADER["__metadata__"], **more}})


def _entry_text(old: str, new: str) -> str:
    """The header's text with its first occurrence of `old` replaced."""
    return minified(HEADER).replace(old, new, 1)


def _add_duplicates(cases: Collector) -> None:
    spelling = minified(HEADER)
    entry = f'"{DOWN}":{minified(HEADER[DOWN])}'
    metadata = f'"__metadata__":{minified(HEADER["__metadata__"])}'
    version = '"compacter.spec_version":"1.0"'
    for name, header, comment in (
        ("tensor", spelling.replace(entry, f"{entry},{entry}"), "A tensor twice, with equal entries."),
        ("metadata", spelling.replace(metadata, f"{metadata},{metadata}"), "The metadata twice."),
        ("metadata-key", spelling.replace(version, f"{version},{version}"), "A key of the metadata twice."),
        ("field", _entry_text('"dtype":"F32"', '"dtype":"F32","dtype":"F32"'), "A field of an entry twice."),
        ("escaped", spelling.replace(entry, f'{entry},"\\u0073{entry[2:]}'), "The same name, once with an escape."),
    ):
        cases.refuse("E104", name, assemble(header, BODY), comment)
    twice = replace(FILE, config=minified(FILE.config).replace('"name"', '"name":"tiny","name"'))
    comment = "A key of the configuration twice, with equal values."
    cases.refuse("E104", "configuration", twice, comment, statements=("CFG-2",))
    sites = minified(FILE.config).replace('"bottleneck_size"', '"bottleneck_size":1,"bottleneck_size"')
    comment = "A key twice in an object inside the configuration."
    cases.refuse("E104", "configuration-site", replace(FILE, config=sites), comment, statements=("CFG-2",))
    extension = minified({**_config(), "extensions": {"x": {"must_understand": False, "a": 1}}})
    spelled = extension.replace('"a":1', '"a":1,"a":1')
    comment = "A key twice in an extension that is otherwise ignored."
    cases.refuse("E104", "extension", replace(FILE, config=spelled), comment, statements=("CFG-2",))


def _config() -> JsonObject:
    value: JsonObject = json.loads(FILE.config_text)
    return value


def _add_offsets(cases: Collector) -> None:
    both = {DOWN: (0, 8), UP: (8, 16)}
    for name, offsets, size, comment in (
        ("overlap", {UP: (4, 12)}, 12, "The second tensor begins inside the first."),
        ("same-bytes", {UP: (0, 8)}, 8, "Two tensors share their bytes."),
        ("gap", {UP: (12, 20)}, 20, "Four bytes between the tensors belong to none."),
        ("gap-at-the-start", {DOWN: (4, 12), UP: (12, 20)}, 20, "Four bytes before the first tensor."),
        ("bytes-left", {}, 20, "Four bytes behind the last tensor."),
    ):
        header = HEADER
        for tensor, (begin, end) in {**both, **offsets}.items():
            header = {**header, tensor: {**header[tensor], "data_offsets": [begin, end]}}
        cases.refuse("E105", name, _file(header, bytes(size)), comment)
    for name, value, comment in (
        ("one", [0], "One offset."),
        ("three", [0, 8, 8], "Three offsets."),
        ("reversed", [8, 0], "The end before the beginning."),
        ("negative", [-8, 0], "A negative beginning."),
        ("floats", [0.0, 8.0], "Offsets with a fraction."),
        ("booleans", [False, 8], "A boolean as an offset."),
        ("text", "0,8", "Offsets as text."),
        ("null", None, "No offsets."),
        ("object", {"begin": 0, "end": 8}, "Offsets as an object."),
    ):
        data = _file(_entry(DOWN, data_offsets=value))
        cases.refuse("E105", f"offsets-{name}", data, comment, statements=("FMT-12",))


def _add_sizes(cases: Collector) -> None:
    top = 2**31 - 1
    for name, shape, end, comment in (
        ("too-few", [2, 1], 4, "Half the bytes of its shape."),
        ("too-many", [2, 1], 16, "Twice the bytes of its shape."),
        ("none", [2, 1], 0, "No bytes."),
        ("scalar", [], 8, "A scalar of two elements."),
        ("overflow-to-126-bits", [top, top, top, top], 8, "A product of 124 bits."),
        ("overflow-to-0", [2**16, 2**16, 2**16, 2**14], 0, "A number of bytes that is 0 modulo 2^64."),
        ("overflow-to-8", [2**30, 2**30, 4, 3], 8, "A number of bytes far over 2^64."),
    ):
        header = {**HEADER, DOWN: {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}
        header[UP] = {**HEADER[UP], "data_offsets": [end, end + 8]}
        statements = ("FMT-13", "SEC-4") if name.startswith("overflow") else ("FMT-13",)
        cases.refuse("E106", name, _file(header, bytes(end + 8)), comment, statements=statements)


def _add_shapes(cases: Collector) -> None:
    for name, value, comment in (
        ("rank-5", [2, 1, 1, 1, 1], "Five dimensions."),
        ("zero", [2, 0], "A dimension of 0."),
        ("negative", [-2, 1], "A negative dimension."),
        ("2-to-the-31", [2**31, 1], "A dimension over 2^31 - 1."),
        ("float", [2.0, 1], "A dimension with a fraction."),
        ("boolean", [2, True], "A boolean as a dimension."),
        ("string", ["2", 1], "A dimension as text."),
        ("text", "2,1", "A shape as text."),
        ("null", None, "No shape."),
        ("number", 2, "A number as a shape."),
    ):
        cases.refuse("E107", name, _file(_entry(DOWN, shape=value)), comment)


def _add_dtypes_and_fields(cases: Collector) -> None:
    for name, dtype in (
        ("i64", "I64"),
        ("bool", "BOOL"),
        ("f8", "F8_E4M3"),
        ("lower-case", "f32"),
        ("empty", ""),
        ("number", 32),
        ("null", None),
        ("list", ["F32"]),
    ):
        cases.refuse("E110", name, _file(_entry(DOWN, dtype=dtype)), f"The type {minified(dtype)}.")
    fields = HEADER[DOWN]
    entries: tuple[tuple[str, object, str], ...] = (
        ("unknown", {**fields, "strides": [1, 1]}, "A field that does not exist."),
        ("missing", {"dtype": "F32", "shape": [2, 1]}, "No data_offsets."),
        ("empty", {}, "No fields."),
        ("list", ["F32", [2, 1], [0, 8]], "A list."),
        ("null", None, "null."),
        ("string", "F32", "A string."),
    )
    for name, value, comment in entries:
        cases.refuse("E111", name, _file({**HEADER, DOWN: value}), f"An entry of a tensor: {comment}")


def _add_names(cases: Collector) -> None:
    for name, tensor in _odd_names():
        header = {(tensor if key == DOWN else key): value for key, value in HEADER.items()}
        cases.refuse("E109", name, assemble(json.dumps(header), BODY), f"The name {json.dumps(tensor)}.")
    header = {("n" * 513 if key == DOWN else key): value for key, value in HEADER.items()}
    cases.refuse("E108", "name-of-513-bytes", _file(header), "A name of 513 bytes.")
    entry = '"t#":{"dtype":"F16","shape":[],"data_offsets":[#,#]},'
    crowd = Segment(entry.encode(), MAX_TENSORS + 1, ((0, 1), (0, 2), (2, 2)))
    before, after = "{", f'"__metadata__":{minified(HEADER["__metadata__"])}}}'
    length = len(before) + crowd.size + len(after)
    segments = (counted(entry, crowd.times, crowd.counters), text(after), raw(b"\0", 2 * crowd.times))
    recipe = Recipe((raw(length_field(length)), text(before), *segments))
    cases.refuse("E108", "65537-tensors", recipe, "65,537 tensors.", statements=("FMT-7", "SEC-3"), flags=LIMITS)


def _odd_names() -> Iterator[tuple[str, str]]:
    yield from (
        ("empty", ""),
        ("dot", "."),
        ("trailing-dot", DOWN + "."),
        ("leading-dot", "." + DOWN),
        ("two-dots", DOWN.replace(".", "..", 1)),
        ("space", "site encoder"),
        ("slash", "site/encoder"),
        ("path", "../../etc/passwd"),
        ("backslash", "site\\encoder"),
        ("umlaut", "site.ä"),
        ("foreign-digit", "site.encoder.\u0663.ffn"),
        ("line-feed", DOWN + "\n"),
        ("zero-byte", DOWN + "\0"),
        ("surrogate", DOWN + "\ud800"),
        ("metadata-like", "__metadata__."),
    )


def _add_other_formats(cases: Collector) -> None:
    pickled = {
        2: b"\x80\x02}q\x00U\x01wq\x01K\x01s.",
        3: b"\x80\x03}q\x00X\x01\x00\x00\x00wq\x01K\x01s.",
        4: b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01w\x94K\x01s.",
        5: b"\x80\x05\x95\x0a\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01w\x94K\x01s.",
    }
    samples = {f"pickle-{protocol}": (data, f"A pickle of protocol {protocol}.") for protocol, data in pickled.items()}
    samples["pickle-of-2-bytes"] = (b"\x80\x02", "The shortest beginning of a pickle.")
    samples["zip"] = (b"PK\x03\x04\x14\0\0\0\0\0" + bytes(40), "A zip archive, as torch.save writes.")
    for name, (data, comment) in samples.items():  # their lengths, as safetensors, would be wrong too
        cases.refuse("E112", name, data, comment, statements=(*BY_CODE["E112"], "ERR-4"))
