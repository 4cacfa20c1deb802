"""Wrong readers: what they forgive, confuse or misread."""

import hashlib
import json
import math
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from compacter_core.conformance.implementation import Answer, Done, Request
from compacter_core.conformance.mutation.file_mutant import (
    FileMutant,
    Right,
    confused,
    repaired,
    take_apart,
    unchecked,
    with_config,
    with_header,
)
from compacter_core.conformance.specification import file_codes
from compacter_core.conformance.words import ConformanceClass, Op
from compacter_core.format.config_json import config_from_json
from compacter_core.layout import adapter_layout, head_layout, override_names

_reader: Final = partial(FileMutant, classes=frozenset({ConformanceClass.READER}))
_READER_CODES: Final = tuple(code for code in file_codes() if not code.startswith("E6"))


def _forgiving(name: str, description: str, repair: Callable[[bytes], bytes]) -> FileMutant:
    return _reader(name, description, repaired(Op.READ, "adapter", repair))


def _careless(name: str, description: str, change: Callable[[dict[str, Any]], object]) -> FileMutant:
    return _forgiving(name, description, with_config(change))


def _misreading(name: str, description: str, change: Callable[[dict[str, Any], Request], object]) -> FileMutant:
    """A reader whose answer is changed in place."""

    def behave(request: Request, right: Right) -> Answer:
        answer = right(request)
        if request.op is not Op.READ or not isinstance(answer, Done):
            return answer
        value: dict[str, Any] = json.loads(json.dumps(dict(answer.value)))
        change(value, request)
        return Done(value)

    return _reader(name, description, behave)


def _tiled(header: dict[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
    """Tensors one after the other, whatever their offsets were."""
    entries = {name: dict(entry) for name, entry in header.items() if name != "__metadata__" and _is_entry(entry)}
    data = b""
    for entry in entries.values():
        begin, end = entry["data_offsets"]
        entry["data_offsets"] = [len(data), len(data) + end - begin]
        data += body[begin:end]
    return {**header, **entries}, data


def _is_entry(entry: object) -> bool:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    return isinstance(offsets, list) and len(offsets) == 2 and all(type(each) is int for each in offsets)  # noqa: PLR2004


def _without_rest(header: dict[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__" and _is_entry(entry)]
    return header, body[: max(ends, default=0)]


def _known_tensors(header: dict[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
    """Only the tensors that the configuration asks for, and sketches."""
    try:
        config = config_from_json(header["__metadata__"]["compacter.config"])
    except Exception:  # a file that is refused for another reason
        return header, body
    known = {*adapter_layout(config), *head_layout(config), *override_names(config), "__metadata__"}
    return _tiled({name: e for name, e in header.items() if name in known or name.startswith("sketch.")}, body)


def _finite(pattern: Callable[[float], bool]) -> Callable[[bytes], bytes]:
    """A repair that writes 0 over values of F32 tensors."""

    def change(header: dict[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
        data = bytearray(body)
        for name, entry in header.items():
            if name != "__metadata__" and _is_entry(entry) and entry.get("dtype") == "F32":
                begin, end = entry["data_offsets"]
                for position in range(begin, min(end, len(data) - 3), 4):
                    if pattern(struct.unpack_from("<f", data, position)[0]):
                        data[position : position + 4] = bytes(4)
        return header, bytes(data)

    return with_header(change)


def _each_entry(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def repair(header: dict[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
        for name, entry in header.items():
            if name != "__metadata__" and isinstance(entry, dict):
                change(entry)
        return header, body

    return with_header(repair)


def _text(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """A repair of the header's text."""

    def repair(data: bytes) -> bytes:
        (length,) = struct.unpack("<Q", data[:8].ljust(8, b"\0"))
        text = change(data[8 : 8 + length])
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return repair


def _nulls_dropped(config: dict[str, Any]) -> None:
    for key in [key for key, value in config.items() if value is None]:
        del config[key]


def _integers(config: dict[str, Any]) -> None:
    for key, value in config.items():
        if isinstance(value, float) and value.is_integer() and key != "scaling":
            config[key] = int(value)


def _known_keys(config: dict[str, Any]) -> None:
    for key in ("reduction_factor", "Scaling", "gate"):
        config.pop(key, None)


def _upper(dtype: object) -> object:
    return dtype.upper() if isinstance(dtype, str) else dtype


def _head(config: dict[str, Any]) -> dict[str, Any]:
    head = config.get("head")
    return head if isinstance(head, dict) else {}


def _post_made_right(config: dict[str, Any]) -> None:
    attach = config.get("attach")
    if isinstance(attach, dict):
        attach["post"] = attach.get("skip", "sublayer_output") == "sublayer_output"


def _sites_once(config: dict[str, Any]) -> None:
    sites = config.get("sites")
    if isinstance(sites, list) and all(isinstance(site, dict) for site in sites):
        config["sites"] = list({site.get("id"): site for site in sites}.values())


def _file_config(request: Request) -> dict[str, Any]:
    header, _ = take_apart(request.files["adapter"].read_bytes())
    config: dict[str, Any] = json.loads(header["__metadata__"]["compacter.config"])
    return config


def _default(key: str, value: object) -> Callable[[dict[str, Any], Request], object]:
    def change(answer: dict[str, Any], request: Request) -> None:
        if key not in _file_config(request):
            answer["config"][key] = value

    return change


def _attach_inherited(answer: dict[str, Any], request: Request) -> None:
    config = _file_config(request)
    for site, ours in zip(config["sites"], answer["config"]["sites"], strict=True):
        if "attach" in site:
            ours["attach"] = {**answer["config"]["attach"], **site["attach"]}


def _reversed_shapes(answer: dict[str, Any], _: Request) -> None:
    for tensor in answer["tensors"].values():
        tensor["shape"].reverse()


def _swapped_bytes(answer: dict[str, Any], request: Request) -> None:
    """Digests of big-endian values."""
    header, body = take_apart(request.files["adapter"].read_bytes())
    for name, tensor in answer["tensors"].items():
        begin, end = header[name]["data_offsets"]
        size = {"F64": 8, "F32": 4}.get(tensor["dtype"], 2)
        data = b"".join(body[i : i + size][::-1] for i in range(begin, end, size))
        tensor["sha256"] = hashlib.sha256(data).hexdigest()


def _without_sketches(answer: dict[str, Any], _: Request) -> None:
    answer["tensors"] = {name: t for name, t in answer["tensors"].items() if not name.startswith("sketch.")}


def _narrow_scaling(answer: dict[str, Any], _: Request) -> None:
    scaling = answer["config"]["scaling"]
    if isinstance(scaling, float):
        (answer["config"]["scaling"],) = struct.unpack("<f", struct.pack("<f", scaling))


def _ascii(answer: dict[str, Any], _: Request) -> None:
    answer["config"]["method"] = answer["config"]["method"].encode("ascii", "replace").decode()
    head = answer["config"].get("head")
    if head is not None:
        head["labels"] = [label.encode("ascii", "replace").decode() for label in head["labels"]]


def _one_size(answer: dict[str, Any], _: Request) -> None:
    for tensor in answer["tensors"].values():
        tensor["dtype"] = "F16" if tensor["dtype"] == "BF16" else tensor["dtype"]


READ_MUTANTS: Final[tuple[FileMutant, ...]] = (
    *(_reader(f"never-{code.lower()}", f"does not look for {code}", unchecked(code)) for code in _READER_CODES),
    _reader("rule-as-tensor", "calls a missing rule a missing tensor", confused("E302", "E301")),
    _reader("duplicate-as-json", "calls a duplicate key bad JSON", confused("E104", "E103")),
    _reader("number-as-schema", "calls a limit of the configuration's JSON a schema's", confused("E202", "E203")),
    _reader("range-as-schema", "has one code for types and ranges", confused("E208", "E203")),
    _reader("truncation-as-size", "calls a truncated file a wrong size", confused("E101", "E106")),
    _reader("override-name-as-kind", "confuses the codes of overrides", confused("E404", "E405")),
    _reader("sketch-as-structure", "confuses the codes of backbones", confused("E403", "E401")),
    _forgiving(
        "last-duplicate-wins", "takes the last of duplicate keys in the header", with_header(lambda h, b: (h, b))
    ),
    _careless("last-duplicate-wins-in-config", "takes the last of duplicate keys in the configuration", lambda c: None),
    _forgiving("tiling-ignored", "reads tensors by their offsets, gaps and overlaps or not", with_header(_tiled)),
    _forgiving("rest-ignored", "ignores bytes behind the last tensor", with_header(_without_rest)),
    _forgiving("extra-tensors-ignored", "ignores tensors it does not know", with_header(_known_tensors)),
    _forgiving("entry-fields-ignored", "ignores fields of an entry", _each_entry(lambda e: e.pop("strides", None))),
    _forgiving("any-case-of-types", "reads f32 as F32", _each_entry(lambda e: e.update(dtype=_upper(e.get("dtype"))))),
    _forgiving("nan-accepted", "reads a NaN", _finite(math.isnan)),
    _forgiving("infinity-accepted", "reads infinities", _finite(math.isinf)),
    _forgiving("leading-space-accepted", "skips white space before the header", _text(bytes.lstrip)),
    _forgiving("byte-order-mark-accepted", "skips a BOM", _text(lambda text: text.removeprefix(b"\xef\xbb\xbf"))),
    _forgiving("sloppy-utf-8", "drops bytes that are no UTF-8", _text(lambda t: t.decode(errors="ignore").encode())),
    _careless("unknown-keys-ignored", "ignores keys it does not know", _known_keys),
    _careless("extensions-ignored", "ignores all extensions", lambda c: c.pop("extensions", None)),
    _careless("null-is-absent", "takes null for a missing key", _nulls_dropped),
    _careless("float-is-integer", "takes 4.0 for an integer", _integers),
    _careless("number-is-boolean", "takes 1 for true", lambda c: c.update(bias_up=bool(c.get("bias_up", True)))),
    _careless("post-mended", "sets post as it should be", _post_made_right),
    _careless("sites-mended", "drops a site that is there twice", _sites_once),
    _careless("labels-ignored", "does not look at the labels", lambda c: _head(c).pop("labels", None)),
    _careless("backbone-ignored", "does not look at the backbone", lambda c: c.pop("backbone", None)),
    _misreading("bias-down-off", "takes bias_down to be false by default", _default("bias_down", False)),
    _misreading("bias-up-off", "takes bias_up to be false by default", _default("bias_up", False)),
    _misreading("gelu-by-default", "takes gelu to be the default", _default("non_linearity", "gelu")),
    _misreading("scaling-0-by-default", "takes 0 to be the default", _default("scaling", 0.0)),
    _misreading("attach-inherited", "fills a site's attach with the adapter's keys", _attach_inherited),
    _misreading("shapes-reversed", "reads shapes from right to left", _reversed_shapes),
    _misreading("big-endian", "reads big-endian values", _swapped_bytes),
    _misreading("sketches-left-out", "forgets sketches", _without_sketches),
    _misreading("scaling-in-f32", "holds the scaling in F32", _narrow_scaling),
    _misreading("ascii-only", "loses letters beyond ASCII", _ascii),
    _misreading("bf16-as-f16", "takes BF16 for F16", _one_size),
    _misreading("extensions-lost", "does not keep extensions", lambda a, _: a["config"].update(extensions={})),
    _misreading(
        "version-lost", "says 1.0 for every minor version", lambda a, _: a["config"].update(spec_version="1.0")
    ),
)
"""Wrong readers; each has to fail a case of `read`."""
