"""Wrong writers: bytes that are valid but not the canonical ones, and files that must not be written."""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from compacter_core.conformance.implementation import Answer, Done, Request
from compacter_core.conformance.mutation.file_mutant import (
    FileMutant,
    Right,
    put_together,
    take_apart,
    unchecked,
)
from compacter_core.conformance.specification import file_codes
from compacter_core.conformance.words import ConformanceClass, Op

_writer: Final = partial(FileMutant, classes=frozenset({ConformanceClass.WRITER}))
_CONFIG: Final = "compacter.config"
_FULL_BELOW: Final = 1e21
"""Where JavaScript begins to write exponents."""
_SIZES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}

Header = dict[str, Any]


def _rewriting(name: str, description: str, change: Callable[[bytes], bytes]) -> FileMutant:
    """A writer that changes the canonical bytes."""

    def behave(request: Request, right: Right) -> Answer:
        answer = right(request)
        if request.op is Op.WRITE and isinstance(answer, Done):
            request.out.write_bytes(change(request.out.read_bytes()))
        return answer

    return _writer(name, description, behave)


def _with_text(name: str, description: str, change: Callable[[str], str]) -> FileMutant:
    """A writer whose configuration is spelt otherwise."""

    def rewrite(data: bytes) -> bytes:
        header, body = take_apart(data)
        metadata = {**header["__metadata__"], _CONFIG: change(header["__metadata__"][_CONFIG])}
        return _padded({**header, "__metadata__": metadata}, body)

    return _rewriting(name, description, rewrite)


def _with_config(name: str, description: str, change: Callable[[Any], object]) -> FileMutant:
    """A writer whose configuration is changed in place."""

    def rewrite(text: str) -> str:
        config = json.loads(text)
        change(config)
        return json.dumps(config, separators=(",", ":"), sort_keys=True, ensure_ascii=False)

    return _with_text(name, description, rewrite)


def _padded(header: Header, body: bytes, character: bytes = b" ") -> bytes:
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += character * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def _with_header(change: Callable[[Header], Header]) -> Callable[[bytes], bytes]:
    def rewrite(data: bytes) -> bytes:
        header, body = take_apart(data)
        return _padded(change(header), body)

    return rewrite


def _ordered(key: Callable[[tuple[str, Header]], Any]) -> Callable[[bytes], bytes]:
    """Tensors in another order."""

    def rewrite(data: bytes) -> bytes:
        header, body = take_apart(data)
        metadata = header.pop("__metadata__")
        changed: Header = {"__metadata__": metadata}
        moved = b""
        for name, entry in sorted(header.items(), key=key):
            part = body[slice(*entry["data_offsets"])]
            changed[name] = {**entry, "data_offsets": [len(moved), len(moved) + len(part)]}
            moved += part
        return _padded(changed, moved)

    return rewrite


def _swapped(data: bytes) -> bytes:
    header, body = take_apart(data)
    moved = b""
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            size = _SIZES[entry["dtype"]]
            moved += b"".join(body[i : i + size][::-1] for i in range(begin, end, size))
    return _padded(header, moved)


def _bf16_from_lower_half(data: bytes) -> bytes:
    """What taking the other half of a float32 gives: zeros, for values that bfloat16 holds."""
    header, body = take_apart(data)
    moved = bytearray(body)
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "BF16":
            moved[slice(*entry["data_offsets"])] = bytes(entry["data_offsets"][1] - entry["data_offsets"][0])
    return _padded(header, bytes(moved))


def _metadata_last(header: Header) -> Header:
    metadata = header.pop("__metadata__")
    return {**header, "__metadata__": metadata}


def _metadata_reversed(header: Header) -> Header:
    return {**header, "__metadata__": dict(reversed(header["__metadata__"].items()))}


def _fields_sorted(header: Header) -> Header:
    return {name: dict(sorted(entry.items())) for name, entry in header.items()}


def _utf16_sorted(value: Any) -> Any:
    """Keys sorted by UTF-16 code units, as some languages sort strings."""
    if isinstance(value, dict):
        return {key: _utf16_sorted(value[key]) for key in sorted(value, key=lambda key: key.encode("utf-16-be"))}
    return [_utf16_sorted(item) for item in value] if isinstance(value, list) else value


def _dumped(value: Any, **spelling: Any) -> str:
    return json.dumps(value, **{"separators": (",", ":"), "sort_keys": True, "ensure_ascii": False, **spelling})


def _top_sorted_only(text: str) -> str:
    """Inner objects keep the reverse order."""
    config = json.loads(text)
    flipped = {k: dict(reversed(v.items())) if isinstance(v, dict) else v for k, v in config.items()}
    return _dumped(flipped, sort_keys=False)


def _without_defaults(config: Any) -> None:
    for key in ("bias_down", "bias_up", "overrides", "training", "extensions"):
        config.pop(key, None)


def _narrow_zero(config: Any) -> None:
    if config["scaling"] == 0:
        config["scaling"] = 0.0


_NUMBER: Final = re.compile(r'"scaling":([^,"]+),')


def _scaling(change: Callable[[str], str]) -> Callable[[str], str]:
    """The scaling's number spelt otherwise."""
    return lambda text: _NUMBER.sub(lambda found: f'"scaling":{change(found[1])},', text)


WRITE_MUTANTS: Final[tuple[FileMutant, ...]] = (
    *(
        _writer(f"writes-{code.lower()}", f"writes what is refused with {code}", unchecked(code, op=Op.WRITE))
        for code in file_codes()
        if code in {"E202", "E203", "E204", "E205", "E207", "E208", "E209", "E210", "E211"}
        or code in {"E301", "E302", "E303", "E304", "E305", "E306", "E308"}
    ),
    _rewriting("by-name-only", "orders tensors by name", _ordered(lambda item: item[0])),
    _rewriting("narrow-first", "orders item sizes ascending", _ordered(lambda e: (_SIZES[e[1]["dtype"]], e[0]))),
    _rewriting(
        "names-any-case",
        "orders names without regard to case",
        _ordered(lambda e: (-_SIZES[e[1]["dtype"]], e[0].lower())),
    ),
    _rewriting("big-endian-writer", "writes big-endian values", _swapped),
    _rewriting("bf16-lower-half", "writes the wrong half of BF16", _bf16_from_lower_half),
    _rewriting("metadata-last", "writes the metadata last", _with_header(_metadata_last)),
    _rewriting("metadata-unsorted", "writes the version first", _with_header(_metadata_reversed)),
    _rewriting("fields-sorted", "sorts the fields of an entry", _with_header(_fields_sorted)),
    _rewriting("unpadded", "does not pad", lambda d: put_together(*take_apart(d), ensure_ascii=False)),
    _rewriting("padded-with-zeros", "pads with zero bytes", lambda data: _padded(*take_apart(data), b"\0")),
    _rewriting("spaced", "writes spaces", lambda d: put_together(*take_apart(d), separators=(", ", ": "))),
    _rewriting(
        "foreign-metadata",
        "adds metadata",
        _with_header(lambda h: {**h, "__metadata__": {**h["__metadata__"], "format": "np"}}),
    ),
    _rewriting("header-in-ascii", "escapes what is beyond ASCII", lambda data: put_together(*take_apart(data))),
    _with_text(
        "config-in-ascii", "escapes what is beyond ASCII", lambda text: _dumped(json.loads(text), ensure_ascii=True)
    ),
    _with_text("config-spaced", "writes spaces", lambda text: json.dumps(json.loads(text), sort_keys=True)),
    _with_text(
        "keys-by-utf-16", "sorts keys by UTF-16", lambda text: _dumped(_utf16_sorted(json.loads(text)), sort_keys=False)
    ),
    _with_text("top-keys-sorted-only", "sorts only the outermost keys", _top_sorted_only),
    _with_text("slash-escaped", "escapes slashes", lambda text: text.replace("/", "\\/")),
    _with_text("delete-escaped", "escapes U+007F", lambda text: text.replace("\x7f", "\\u007f")),
    _with_text("separators-escaped", "escapes U+2028", lambda text: text.replace("\u2028", "\\u2028")),
    _with_text("html-escaped", "escapes <", lambda text: text.replace("<", "\\u003c")),
    _with_text("controls-in-capitals", "writes \\u001B", lambda text: text.replace("\\u001b", "\\u001B")),
    _with_text("long-escapes", "writes \\u000a for \\n", lambda text: text.replace("\\n", "\\u000a")),
    _with_text("scaling-as-integer", "writes 1 for 1.0", _scaling(lambda number: number.removesuffix(".0"))),
    _with_text("short-exponent", "writes 1e-7 for 1e-07", _scaling(lambda n: re.sub(r"e([+-])0", r"e\1", n))),
    _with_text("no-plus", "writes 1e16 for 1e+16", _scaling(lambda number: number.replace("e+", "e"))),
    _with_text("capital-exponent", "writes 1E-07", _scaling(lambda number: number.replace("e", "E"))),
    _with_text("17-digits", "writes 17 digits", _scaling(lambda number: format(float(number), ".17g"))),
    _with_text("15-digits", "writes 15 digits", _scaling(lambda number: repr(float(format(float(number), ".15g"))))),
    _with_text(
        "exponent-from-1e21",
        "writes 1e16 in full",
        _scaling(lambda n: f"{float(n):.1f}" if abs(float(n)) < _FULL_BELOW else n),
    ),
    _with_config("positive-zero", "writes -0.0 as 0.0", _narrow_zero),
    _with_config("defaults-left-out", "leaves defaults out", _without_defaults),
    _with_config("training-lost", "loses training", lambda config: config.update(training={})),
    _with_config("extensions-not-kept", "loses extensions", lambda config: config.update(extensions={})),
    _with_config("version-reset", "writes its own version", lambda config: config.update(spec_version="1.0")),
    _with_config("sites-sorted", "sorts sites", lambda c: c.update(sites=sorted(c["sites"], key=lambda s: s["id"]))),
)
"""Wrong writers; each has to fail a case of `write`."""
