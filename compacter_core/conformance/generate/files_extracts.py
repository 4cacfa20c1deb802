"""Grafted models out of which the adapter file has to come again, or which have to be refused (ONX-15 to ONX-22)."""

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from compacter_core.conformance.case import Expectation
from compacter_core.conformance.generate.files_collector import Collector
from compacter_core.conformance.generate.files_grafted import ToyAdapter, toy_config
from compacter_core.conformance.generate.files_graphs import Spelling, ToyWriter
from compacter_core.conformance.generate.files_toys import Linear, Toy, ternary
from compacter_core.conformance.words import Op

MODEL: Final = ".onnx"
RIGHT: Final = ("ONX-15", "ONX-16", "ONX-17", "ONX-18", "ONX-22")
TOY: Final = Toy(
    layers=(Linear(ternary(4, 4, 1), (1, -1, 2, 0)),),
    head=(Linear(ternary(4, 3, 3), (1, 0, -1)),),
)
UP: Final = "compacter/toy/encoder.0.ffn/up.weight"
HEAD: Final = "compacter/toy/head/head.0.weight"


def add_extracts(cases: Collector) -> None:
    """Add the cases of `extract`."""
    _add_right(cases)
    _add_metadata(cases)
    _add_constants(cases)


def _toy_adapter(**changes: Any) -> ToyAdapter:
    head = {"task": "toy", "layers": ["head.0"], "shapes": {"head.0.weight": [2, 4], "head.0.bias": [2]}}
    return ToyAdapter.of(TOY, toy_config(TOY, head=head, **changes))


def _add(
    cases: Collector, name: str, model: bytes, expect: Expectation, *, statements: Sequence[str], comment: str
) -> None:
    case_id = f"extract/{'valid' if expect.code is None else expect.code.lower()}/{name}"
    files = {"model": cases.store(case_id, model, MODEL)}
    cases.add(case_id, Op.EXTRACT, expect, statements, comment, files=files)


def _right(cases: Collector, name: str, adapter: ToyAdapter, model: bytes, comment: str) -> None:
    path = cases.store(f"extract/valid/{name}", adapter.file)
    _add(cases, name, model, Expectation(file=path), statements=RIGHT, comment=comment)


def _add_right(cases: Collector) -> None:
    adapter = _toy_adapter()
    for form in ("fold", "plain"):
        _right(cases, form, adapter, adapter.grafted(form), f"Sites in the {form} form, and a head.")
    for dtype in ("F64", "F16"):
        model = adapter.grafted("plain", Spelling(dtype=dtype))
        _right(cases, dtype.lower(), adapter, model, f"A graph of type {dtype} that carries a file of type F32.")
    named = _toy_adapter(method="größer 肯定", training={"x": [0.1, 1e-7]}, spec_version="1.7", name="A_1-b")
    _right(cases, "labels", named, named.grafted("plain"), "Letters beyond ASCII, numbers, a later minor version.")
    bare = ToyAdapter.of(TOY, toy_config(TOY, bias_down=False, bias_up=False))
    _right(cases, "nothing-replaced", bare, bare.grafted("plain"), "No head, no overrides, no biases.")


def _refused(
    cases: Collector, code: str, name: str, model: bytes, comment: str, *, statements: Sequence[str] = ()
) -> None:
    known = {"E601": ("ONX-19",), "E602": ("ONX-20",), "E603": ("ONX-21", "ONX-18")}
    _add(cases, name, model, Expectation(code=code), statements=statements or known[code], comment=comment)


def _add_metadata(cases: Collector) -> None:
    adapter = _toy_adapter()
    _refused(cases, "E601", "backbone", ToyWriter(TOY, Spelling()).write(), "A backbone that nothing was grafted into.")
    for key in ("adapter", "config", "sites", "replaced"):
        model = adapter.grafted("plain", metadata={key: None})
        _refused(cases, "E601", f"no-{key}", model, f"No compacter.{key}.")
    file = base64.b64encode(adapter.file).decode()
    for name, key, value, comment in (
        ("adapter-not-base64", "adapter", "{" + file[1:], "The file has a character that base64 does not have."),
        ("adapter-unpadded", "adapter", file + "A", "The length of the base64 text is none."),
        ("sites-not-json", "sites", "{", "compacter.sites is not JSON."),
        ("sites-list", "sites", "[]", "compacter.sites is a list."),
        ("sites-without-initialisers", "sites", '{"encoder.0.ffn":{"form":"plain"}}', "A site without initialisers."),
        ("replaced-not-json", "replaced", "no", "compacter.replaced is not JSON."),
    ):
        _refused(cases, "E601", name, adapter.grafted("plain", metadata={key: value}), comment)
    cut = base64.b64encode(adapter.file[:-1]).decode()
    comment = "The embedded file is cut: it is refused as a file would be."
    _refused(
        cases,
        "E101",
        "embedded",
        adapter.grafted("plain", metadata={"adapter": cut}),
        comment,
        statements=("ONX-22", "FMT-1"),
    )
    nan = adapter.file[:-4] + b"\0\0\xc0\x7f"
    spoilt = adapter.grafted("plain", metadata={"adapter": base64.b64encode(nan).decode()})
    _refused(cases, "E306", "embedded", spoilt, "A NaN in the embedded file.", statements=("ONX-22", "FMT-24"))
    both = adapter.grafted("plain", metadata={"adapter": cut, "replaced": json.dumps({"gone": "0" * 64})})
    comment = "The embedded file is cut, and a constant is missing: the file is looked at first."
    _refused(cases, "E101", "embedded-first", both, comment, statements=("ONX-22", "ERR-4"))


def _add_constants(cases: Collector) -> None:
    adapter = _toy_adapter()
    recorded = adapter.recorded("plain")
    for name, changes, comment in (
        ("site", {"sites": _renamed(recorded["sites"], UP)}, "A constant of a site is not in the graph."),
        ("head", {"replaced": _renamed(recorded["replaced"], HEAD)}, "A tensor of the head is not in the graph."),
        ("only", {"replaced": json.dumps({"gone": "0" * 64})}, "Nothing is replaced but a tensor that is gone."),
    ):
        _refused(cases, "E602", name, adapter.grafted("plain", metadata=changes), comment)
    for name, changes, comment in (
        ("site", {"sites": _other_digest(recorded["sites"], UP)}, "The digest of a site's constant differs."),
        ("head", {"replaced": _other_digest(recorded["replaced"], HEAD)}, "The digest of the head's weight differs."),
    ):
        _refused(cases, "E603", name, adapter.grafted("plain", metadata=changes), comment)
    other = ToyAdapter.of(TOY, adapter.config, {"site.encoder.0.ffn.up.W": np.ones((2, 4))})
    mixed = other.grafted("plain", metadata=recorded)
    _refused(cases, "E603", "value", mixed, "Another adapter's constants under the names and digests of the adapter.")
    wide = adapter.grafted("plain", Spelling(dtype="F64"), metadata=recorded)
    _refused(cases, "E603", "cast", wide, "The graph was cast after the graft: equal values in other bytes.")


def _renamed(text: str, name: str) -> str:
    return text.replace(f'"{name}"', f'"{name}.1"')


def _other_digest(text: str, name: str) -> str:
    start = text.index(f'"{name}":"') + len(f'"{name}":"')
    digit = "0" if text[start] != "0" else "1"
    return text[:start] + digit + text[start + 1 :]
