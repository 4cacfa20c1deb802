"""Checks of a suite: a right one has no findings, and each fault in a copy is found."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compacter_core.adapter import DType
from compacter_core.conformance.case import Case, Expectation
from compacter_core.conformance.findings import Finding
from compacter_core.conformance.generate.builder import Builder, json_bytes
from compacter_core.conformance.generate.files_cases import add_file_cases
from compacter_core.conformance.specification import file_codes, statements
from compacter_core.conformance.tensor_files import read_tensors, write_tensors
from compacter_core.conformance.validate import LARGEST, validate
from compacter_core.conformance.words import Flag, Op
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.writer import adapter_bytes
from compacter_core.reference.adapter import delta
from tests.conformance.suites import EXACT_TYPES, SITE, integer_adapter, with_bounds

FORWARD = "cases/forward.json"
ID = "forward/exact"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite with every case about files and one with numbers."""
    folder = tmp_path_factory.mktemp("original")
    builder = Builder()
    add_file_cases(builder)
    builder.case(exact_case(builder))
    builder.write(folder)
    return folder


def exact_case(builder: Builder) -> Case:
    """A case of `forward` in integers, with its files."""
    x = np.array([[1.0, -2.0], [3.0, 4.0], [0.0, -1.0]])
    y = {"y": x + delta(integer_adapter().site(SITE), x)}
    kinds = [f"{dtype}.{dtype}" for dtype in EXACT_TYPES]
    files = {"adapter": adapter_bytes(integer_adapter()), "inputs": write_tensors({"x": x, "skip": x}, DType.F64)}
    return Case(
        id=ID,
        statements=("FWD-1",),
        op=Op.FORWARD,
        expect=Expectation(tensors=builder.file("exact.expected.safetensors", with_bounds(y, 0.0, *kinds))),
        flags=frozenset({Flag.EXACT}),
        dtypes=EXACT_TYPES,
        files={name: builder.file(f"exact.{name}.safetensors", data) for name, data in files.items()},
        args={"site": SITE, "outputs": ["y"]},
    )


class Copy:
    """A copy of the suite to be broken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, path: str) -> Any:
        return json.loads((self.folder / path).read_bytes())

    def write(self, path: str, value: Any) -> None:
        """Write a file, as bytes or as JSON, and its digest into the manifest."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(value if isinstance(value, bytes) else json_bytes(value))
        self.digest(path)

    def digest(self, path: str) -> None:
        manifest = self.read("manifest.json")
        manifest["files"][path] = hashlib.sha256((self.folder / path).read_bytes()).hexdigest()
        (self.folder / "manifest.json").write_bytes(json_bytes(manifest))

    def forward(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the case with numbers."""
        value = self.read(FORWARD)
        change(value["cases"][0])
        self.write(FORWARD, value)

    def tensors(self, argument: str, change: Callable[[dict[str, Any]], object], dtype: DType = DType.F64) -> None:
        """Change the tensors of a file of the case with numbers."""
        case = self.read(FORWARD)["cases"][0]
        path = case["files"].get(argument) or case["expect"]["tensors"]
        arrays = {n: t.array for n, t in read_tensors((self.folder / path).read_bytes(), path).items()}
        change(arrays)
        self.write(path, write_tensors({name: a.astype(dtype.memory) for name, a in arrays.items()}, dtype))


@pytest.fixture
def suite(original: Path, tmp_path: Path) -> Copy:
    shutil.copytree(original, tmp_path / "suite")
    return Copy(tmp_path / "suite")


def findings(suite: Copy) -> list[str]:
    return [str(finding) for finding in validate(suite.folder)]


def only(suite: Copy, *parts: str) -> None:
    """There is a finding with each of these texts in it, and no finding without one."""
    found = findings(suite)
    assert found
    for part in parts:
        assert any(part in text for text in found), found
    assert [text for text in found if not any(part in text for part in parts)] == []


def test_a_right_suite_has_no_findings(original: Path) -> None:
    assert validate(original) == ()


def test_a_finding_names_its_place() -> None:
    assert str(Finding("read/a", "is wrong")) == "read/a: is wrong"


def test_a_folder_without_a_suite(tmp_path: Path) -> None:
    with pytest.raises(CompacterError) as caught:
        validate(tmp_path)
    assert caught.value.code is ErrorCode.E005


@pytest.mark.spec("CNF-1")
def test_a_changed_file(suite: Copy) -> None:
    path = suite.read(FORWARD)["cases"][0]["files"]["inputs"]
    target = suite.folder / path
    data = bytearray(target.read_bytes())
    data[-1] ^= 0x80
    target.write_bytes(bytes(data))
    only(suite, f"{path}: has another SHA-256 than in the manifest")


def test_a_file_that_is_not_in_the_manifest(suite: Copy) -> None:
    (suite.folder / "files" / "stranger.bin").write_bytes(b"x")
    only(suite, "files/stranger.bin: is not in the manifest", "files/stranger.bin: belongs to no case")


def test_a_file_that_is_gone(suite: Copy) -> None:
    path = suite.read(FORWARD)["cases"][0]["files"]["inputs"]
    (suite.folder / path).unlink()
    only(suite, f"{path}: is in the manifest and does not exist", f"{ID}: names {path}, which does not exist")


def test_a_file_without_a_case(suite: Copy) -> None:
    suite.write("files/orphan.bin", b"x")
    only(suite, "files/orphan.bin: belongs to no case")


def test_a_manifest_without_digests(suite: Copy) -> None:
    (suite.folder / "manifest.json").write_bytes(json_bytes({"spec": "1.0"}))
    only(suite, "manifest.json: has no digests", "manifest.json: $: 'files' is a required property")


def test_a_manifest_that_is_no_json(suite: Copy) -> None:
    (suite.folder / "manifest.json").write_bytes(b"{")
    only(suite, "manifest.json: is not JSON", "manifest.json: has no digests")


def test_a_case_that_does_not_follow_the_schema(suite: Copy) -> None:
    suite.forward(lambda case: case.pop("args"))
    only(suite, f"{FORWARD}: $.cases[0]: 'args' is a required property")


def test_a_recipe_that_does_not_follow_the_schema(suite: Copy) -> None:
    path = next(p for p in suite.read("manifest.json")["files"] if p.endswith(".recipe.json"))
    suite.write(path, {"segments": [{"text": "a", "time": 3}]})
    only(suite, f"{path}: $.segments[0]")


def test_two_cases_of_one_id(suite: Copy) -> None:
    value = suite.read(FORWARD)
    suite.write(FORWARD, value | {"cases": value["cases"] * 2})
    only(suite, f"{ID}: is the id of several cases")


def test_an_id_outside_the_grammar(suite: Copy) -> None:
    suite.forward(lambda case: case.update(id="Forward"))
    only(suite, "'Forward' does not match")


def test_a_case_in_the_list_of_another_operation(suite: Copy) -> None:
    value = suite.read(FORWARD)
    suite.write("cases/other.json", value)
    (suite.folder / FORWARD).unlink()
    manifest = suite.read("manifest.json")
    del manifest["files"][FORWARD]
    (suite.folder / "manifest.json").write_bytes(json_bytes(manifest))
    only(suite, f"{ID}: stands in cases/other.json and has the operation forward")


@pytest.mark.skipif(statements() is None, reason="the specification's documents are not here")
def test_a_statement_that_does_not_exist(suite: Copy) -> None:
    suite.forward(lambda case: case.update(statements=["FWD-1", "FWD-999"]))
    only(suite, f"{ID}: cites FWD-999, which is no statement of the specification")


def test_documents_that_are_not_there(tmp_path: Path) -> None:
    assert statements(tmp_path) is None


@pytest.mark.spec("ERR-3")
def test_a_code_without_a_case(suite: Copy) -> None:
    for op in Op:
        path = f"cases/{op.value}.json"
        if (suite.folder / path).exists():
            value = suite.read(path)
            for case in value["cases"]:
                if case["expect"].get("code") == "E307":
                    case["expect"] = {"code": "E306"}
            suite.write(path, value)
    only(suite, "E307: is the expectation of no case")


def test_file_codes() -> None:
    assert len(file_codes()) == 41
    assert {"E101", "E112", "E211", "E309", "E405", "E604"} <= set(file_codes())
    assert not {"E113", "E001", "E605", "E701"} & set(file_codes())


def test_a_large_suite(suite: Copy) -> None:
    suite.write("files/large.bin", bytes(LARGEST))
    only(suite, "suite: has", "files/large.bin: belongs to no case")


def test_a_bound_that_is_missing_for_a_type(suite: Copy) -> None:
    suite.tensors("expect", lambda arrays: _drop(arrays, "bound.F16."))
    only(suite, f"{ID}: has no bounds for F16")


def test_a_bound_that_is_missing_for_a_tensor(suite: Copy) -> None:
    suite.tensors("expect", lambda arrays: arrays.update(more=np.zeros(2)))
    only(suite, f"{ID}: has no bound of more for")


def test_a_bound_of_nothing(suite: Copy) -> None:
    suite.tensors("expect", lambda arrays: arrays.update({"bound.F32.F32.z": np.zeros(2)}))
    only(suite, f"{ID}: has bound.F32.F32.z, which bounds nothing")


def test_a_bound_of_another_shape(suite: Copy) -> None:
    suite.tensors("expect", lambda arrays: arrays.update({"bound.F32.F32.y": np.zeros(1)}))
    only(suite, f"{ID}: has a bound of the shape [1] for y of")


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_a_bound_that_is_none(suite: Copy, value: float) -> None:
    suite.tensors("expect", lambda arrays: arrays["bound.F32.F32.y"].fill(value))
    only(suite, f"{ID}: has a bound of y that is negative or NaN", f"{ID}: is exact")


def test_an_exact_case_with_a_bound(suite: Copy) -> None:
    suite.tensors("expect", lambda arrays: arrays["bound.F64.F64.y"].fill(1e-9))
    only(suite, f"{ID}: is exact, and has a bound of y that is not 0")


def test_a_bound_where_a_nan_is_expected_says_nothing(suite: Copy) -> None:
    def spoil(arrays: dict[str, Any]) -> None:
        for name, array in arrays.items():
            if name.endswith("y"):
                array.reshape(-1)[0] = np.nan

    suite.tensors("expect", spoil)
    assert findings(suite) == []


def test_expected_values_in_another_type(suite: Copy) -> None:
    suite.tensors("expect", lambda arrays: None, DType.F32)
    only(suite, f"{ID}: expects y in F32")


def test_expectations_that_are_no_tensors(suite: Copy) -> None:
    suite.write(suite.read(FORWARD)["cases"][0]["expect"]["tensors"], b"nothing")
    only(suite, "is no safetensors file")


def test_expectations_of_no_tensor(suite: Copy) -> None:
    suite.tensors("expect", lambda arrays: _drop(arrays, ""))
    only(suite, f"{ID}: expects no tensor", f"{ID}: has no bounds for")


@pytest.mark.spec("CNF-3")
def test_an_input_that_a_type_does_not_hold(suite: Copy) -> None:
    suite.tensors("inputs", lambda arrays: arrays["x"].fill(1.0 + 2.0**-9))
    only(suite, f"{ID}: x of its inputs is not exact in BF16")


def test_inputs_that_are_no_tensors(suite: Copy) -> None:
    suite.write(suite.read(FORWARD)["cases"][0]["files"]["inputs"], b"nothing")
    only(suite, "is no safetensors file")


def test_a_graft_with_bounds_of_two_kinds(suite: Copy) -> None:
    case = next(case for case in suite.read("cases/graft.json")["cases"] if "tensors" in case["expect"])
    path = case["expect"]["tensors"]
    arrays = {name: t.array for name, t in read_tensors((suite.folder / path).read_bytes(), path).items()}
    arrays["bound.F64.F64.logits"] = np.zeros_like(arrays["logits"])
    suite.write(path, write_tensors(arrays, DType.F64))
    only(suite, f"{case['id']}: has 2 kinds of bounds")


def _drop(arrays: dict[str, Any], prefix: str) -> None:
    for name in [name for name in arrays if name.startswith(prefix)]:
        del arrays[name]


def test_the_case_with_numbers_is_run_in_every_type(original: Path) -> None:
    """Otherwise the tests above would look at fewer bounds than they say."""
    assert set(Copy(original).read(FORWARD)["cases"][0]["dtypes"]) == {dtype.value for dtype in EXACT_TYPES}
