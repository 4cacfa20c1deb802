"""The JSON Schemas of suites, messages, reports, lists and bindings: executed, and tied to the code."""

import io
import json
import re
import tomllib
from dataclasses import fields
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from compacter_core.adapter import DType
from compacter_core.conformance.case import SHAPES_OF_EXPECTATION, Case
from compacter_core.conformance.implementation import Answer, Capabilities, Done, Failed, Rejected, Request, Skipped
from compacter_core.conformance.implementations import create
from compacter_core.conformance.lists import load_lists
from compacter_core.conformance.protocol import (
    FILE_ARGUMENTS,
    PROTOCOL,
    answer_to_json,
    capabilities_to_json,
    request_to_json,
)
from compacter_core.conformance.runner import Selection, run_suite
from compacter_core.conformance.schemas import schema_file, validator, violations
from compacter_core.conformance.subject import InProcess
from compacter_core.conformance.words import ConformanceClass, Flag, Op, Verdict
from compacter_core.errors import CompacterError, ErrorCode
from tests.conformance.file_suite import contents, suite

Draft202012Validator: Any = import_module("jsonschema").Draft202012Validator

ROOT = Path(__file__).parents[2]
SCHEMAS = sorted((ROOT / "specs" / "schemas").glob("*.schema.json"))


def is_valid(name: str, value: object) -> bool:
    return not [*violations(name, value)]


# What is a schema at all.


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_a_schema_is_one_of_draft_2020_12_and_says_its_name(path: Path) -> None:
    schema = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == path.name


def test_a_schema_that_does_not_exist() -> None:
    with pytest.raises(CompacterError) as caught:
        validator("nothing")
    assert caught.value.code is ErrorCode.E005


def test_without_jsonschema_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jsonschema", None)
    validator.cache_clear()
    with pytest.raises(CompacterError) as caught:
        validator("config")
    assert caught.value.code is ErrorCode.E004
    assert "pip install" in str(caught.value.remedy)


# Suites.


@pytest.mark.spec("CNF-2")
def test_case_lists_recipes_and_the_manifest_of_generated_suites_are_valid() -> None:
    places = {"cases/": "cases", "manifest.json": "manifest"}
    for path, data in contents().items():
        name = (
            "recipe"
            if path.endswith(".recipe.json")
            else next((n for p, n in places.items() if path.startswith(p)), None)
        )
        if name is not None:
            assert [*violations(name, json.loads(data))] == [], path


def test_cases_have_the_keys_and_words_of_the_code() -> None:
    schema = json.loads(schema_file("cases").read_text(encoding="utf-8"))
    case = schema["$defs"]["case"]
    assert set(case["properties"]) == {field.name for field in fields(Case)}
    assert set(case["properties"]["op"]["enum"]) == set(Op)
    assert set(case["properties"]["flags"]["items"]["enum"]) == set(Flag)
    assert set(schema["$defs"]["dtype"]["enum"]) == set(DType)
    assert set(schema["$defs"]["expect"]["properties"]) == set(SHAPES_OF_EXPECTATION)


@pytest.mark.parametrize("op", Op)
def test_files_of_an_operation_are_those_that_the_runner_sends(op: Op) -> None:
    schema = json.loads(schema_file("cases").read_text(encoding="utf-8"))
    (then,) = [
        part["then"] for part in schema["$defs"]["case"]["allOf"] if part["if"]["properties"]["op"]["const"] == op
    ]
    allowed = then["properties"]["files"]
    assert set(FILE_ARGUMENTS[op]) == (set(allowed["properties"]) if allowed is not False else set())


CASE: dict[str, Any] = {
    "id": "read/a",
    "statements": ["FMT-1"],
    "op": "read",
    "files": {"adapter": "files/a.safetensors"},
    "expect": {"code": "E101"},
}
FORWARD: dict[str, Any] = {
    "id": "forward/a",
    "statements": ["FWD-1"],
    "op": "forward",
    "dtypes": ["F32"],
    "flags": ["exact"],
    "files": {"adapter": "files/a.safetensors", "inputs": "files/b.safetensors"},
    "args": {"site": "encoder.0.ffn", "outputs": ["y"]},
    "expect": {"tensors": "files/c.safetensors"},
}
WRONG_CASES = {
    "id": CASE | {"id": "Read/a"},
    "id with a slash at the end": CASE | {"id": "read/"},
    "no statement": CASE | {"statements": []},
    "statement": CASE | {"statements": ["fmt-1"]},
    "operation": CASE | {"op": "parse"},
    "two expectations": CASE | {"expect": {"code": "E101", "value": {}}},
    "no expectation": CASE | {"expect": {}},
    "tensors of a reader": CASE | {"expect": {"tensors": "files/a.safetensors"}},
    "types of a reader": CASE | {"dtypes": ["F32"]},
    "unknown file": CASE | {"files": {"adapter": "files/a.safetensors", "model": "files/b"}},
    "no file": {key: value for key, value in CASE.items() if key != "files"},
    "path outside": CASE | {"files": {"adapter": "../a.safetensors"}},
    "arguments of a reader": CASE | {"args": {"site": "x"}},
    "key": CASE | {"section": 3},
    "flag": CASE | {"flags": ["slow"]},
    "no types": {key: value for key, value in FORWARD.items() if key != "dtypes"},
    "type": FORWARD | {"dtypes": ["F8"]},
    "outputs": FORWARD | {"args": {"site": "encoder.0.ffn", "outputs": ["z"]}},
    "no site": FORWARD | {"args": {"outputs": ["y"]}},
    "value of a forward": FORWARD | {"expect": {"value": {}}},
}


def test_right_cases_are_valid() -> None:
    assert is_valid("cases", {"spec": "1.0", "cases": [CASE, FORWARD]})


@pytest.mark.parametrize("case", WRONG_CASES.values(), ids=WRONG_CASES.keys())
def test_wrong_cases_are_not(case: dict[str, Any]) -> None:
    assert not is_valid("cases", {"spec": "1.0", "cases": [case]})


# Bindings.


@pytest.mark.parametrize(
    "name", sorted(p.name for p in (files("compacter_core") / "bindings").iterdir() if p.name.endswith(".json"))
)
def test_bindings_are_valid(name: str) -> None:
    binding = json.loads((files("compacter_core") / "bindings" / name).read_text(encoding="utf-8"))
    assert [*violations("bindings", binding)] == []
    assert binding["model_type"] == name.removesuffix(".json")
    assert not is_valid("bindings", binding | {"comment": "x"})


# Messages, reports and lists.


def examples() -> list[tuple[str, dict[str, Any]]]:
    """The messages in the example of conformance.md, with their direction."""
    text = (ROOT / "specs" / "conformance.md").read_text(encoding="utf-8")
    found = []
    for line in re.findall(r"^(?:->|<-) .*$", text, re.MULTILINE):
        found += [(line[:2], json.loads(message)) for message in line[3:].split(" or ")]
    return found


def test_messages_of_the_specifications_example_are_valid() -> None:
    assert len(examples()) >= 8
    definitions = json.loads(schema_file("message").read_text(encoding="utf-8"))
    for direction, message in examples():
        kind = "request" if direction == "->" else "answer"
        schema = {"$ref": f"#/$defs/{kind}", "$defs": definitions["$defs"]}
        assert Draft202012Validator(schema).is_valid(message), message


@pytest.mark.parametrize(
    "answer", [Done(), Done({"a": 1}), Rejected("E101"), Skipped("no"), Failed("broken")], ids=repr
)
def test_answers_of_the_code_are_valid(answer: Answer) -> None:
    assert is_valid("message", {"seq": 3, **answer_to_json(answer)})


def test_requests_of_the_code_are_valid(tmp_path: Path) -> None:
    for op in Op:
        dtype = DType.F32 if op.belongs_to.has_numbers else None
        adapter = {name: tmp_path / f"1.{name}" for name in FILE_ARGUMENTS[op]}
        request = Request(case="a/b", op=op, dtype=dtype, files=adapter, args={}, out=tmp_path / "1.out")
        assert is_valid("message", {"seq": 1, "cmd": "run", **request_to_json(request)})
    assert is_valid(
        "message", {"seq": 0, "cmd": "start", "protocol": PROTOCOL, "spec": "1.0", "scratch": str(tmp_path)}
    )


WRONG_MESSAGES = {
    "no seq": {"ok": {}},
    "two answers": {"seq": 1, "ok": {}, "skipped": {"reason": "x"}},
    "code": {"seq": 1, "rejected": "E101"},
    "command": {"seq": 1, "cmd": "pause"},
    "path": {"seq": 1, "cmd": "run", "case": "a", "op": "read", "args": {}, "out": "../x"},
    "no type": {"seq": 1, "cmd": "run", "case": "a", "op": "forward", "args": {}, "out": "x"},
    "type": {"seq": 1, "cmd": "run", "case": "a", "op": "read", "dtype": "F32", "args": {}, "out": "x"},
}


@pytest.mark.parametrize("message", WRONG_MESSAGES.values(), ids=WRONG_MESSAGES.keys())
def test_wrong_messages_are_not(message: dict[str, Any]) -> None:
    assert not is_valid("message", message)


def test_capabilities_are_valid() -> None:
    definitions = json.loads(schema_file("message").read_text(encoding="utf-8"))["$defs"]
    schema = Draft202012Validator({"$ref": "#/$defs/capabilities", "$defs": definitions})
    assert schema.is_valid(capabilities_to_json(create("reference").describe()))
    bare = Capabilities(name="x", version="1", claims={ConformanceClass.READER: ()})
    assert schema.is_valid(capabilities_to_json(bare))
    assert not schema.is_valid({"implementation": {"name": "x", "version": "1"}, "claims": {"F": []}})
    assert not schema.is_valid({"implementation": {"name": "x", "version": "1"}, "claims": {"R": ["F32"]}})


@pytest.mark.spec("CNF-19")
def test_a_real_report_is_valid(tmp_path: Path) -> None:
    selection = Selection(patterns=("read/e10[14]/*", "write/number/*"))
    report = run_suite(suite(), InProcess(create("reference")), tmp_path, selection=selection, progress=io.StringIO())
    value = json.loads(json.dumps(report.as_dict()))
    assert [*violations("report", value)] == []
    for key in value:
        assert not is_valid("report", {name: item for name, item in value.items() if name != key}), key
    assert not is_valid("report", value | {"note": "x"})
    assert not is_valid("report", value | {"results": [value["results"][0] | {"verdict": "maybe"}]})


def test_reports_have_the_verdicts_of_the_code() -> None:
    schema = json.loads(schema_file("report").read_text(encoding="utf-8"))
    result = schema["properties"]["results"]["items"]["properties"]
    assert set(result["verdict"]["enum"]) == set(Verdict)
    assert set(result["op"]["enum"]) == set(Op)
    assert set(result["class"]["enum"]) == set(ConformanceClass)


LISTS = """
[[skip]]
case = "forward/gelu/*"
dtype = "F16"
reason = "gelu is not implemented"

[[xfail]]
case = "gradient/phm/shared-001"
reason = "the gradient of a shared rule is that of the last site"
"""


@pytest.mark.spec("CNF-17")
def test_lists_that_the_runner_takes_are_valid(tmp_path: Path) -> None:
    (tmp_path / "lists.toml").write_text(LISTS, encoding="utf-8")
    load_lists(tmp_path / "lists.toml")
    assert [*violations("lists", tomllib.loads(LISTS))] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("reason =", "because ="), ('"F16"', '"F8"'), ("[[skip]]", "[[ignore]]"), ('"gelu is not implemented"', '" "')],
)
def test_lists_that_the_runner_refuses_are_not(tmp_path: Path, old: str, new: str) -> None:
    text = LISTS.replace(old, new, 1)
    (tmp_path / "lists.toml").write_text(text, encoding="utf-8")
    with pytest.raises(CompacterError):
        load_lists(tmp_path / "lists.toml")
    assert not is_valid("lists", tomllib.loads(text))
