"""A suite is what its manifest says, or refused (CNF-1, CNF-2); its files reach the implementation exactly (CNF-3)."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compacter_core.adapter import DType
from compacter_core.conformance.case import Case, Expectation
from compacter_core.conformance.generate.builder import Builder, json_bytes
from compacter_core.conformance.materialise import materialise
from compacter_core.conformance.suite import Suite, default_suite, load_suite, parse_case
from compacter_core.conformance.tensor_files import read_tensors, write_tensors
from compacter_core.conformance.words import Flag, Op
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.format.writer import adapter_bytes
from tests.conformance.suites import (
    CONFIG,
    EXACT_TYPES,
    count_case,
    forward_suite,
    in_memory,
    integer_adapter,
    on_disk,
)

VALID: dict[str, Any] = {"id": "a/b", "statements": ["CNF-1"], "op": "count", "expect": {"value": {}}}
FILES = {"files/x.bin": b"some bytes"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    on_disk(tmp_path / "suite", count_case(), files=FILES)
    return tmp_path / "suite"


def refused(folder: Path, said: str, code: ErrorCode = ErrorCode.E801) -> None:
    with pytest.raises(CompacterError) as caught:
        load_suite(folder)
    assert caught.value.code is code
    assert said in str(caught.value)


def test_a_suite_is_read_back(tmp_path: Path) -> None:
    case = count_case(flags=frozenset({Flag.EDGE}), files={"other": "files/x.bin"}, comment="why")
    suite = on_disk(tmp_path, case, files=FILES)
    assert suite.cases == {case.id: case}
    assert suite.files["files/x.bin"] == b"some bytes"
    assert suite.spec == "1.0"


def test_the_digest_is_that_of_the_manifest(folder: Path, tmp_path: Path) -> None:
    other = on_disk(tmp_path / "other", count_case(answer=4), files=FILES)
    assert load_suite(folder).manifest_sha256 != other.manifest_sha256


@pytest.mark.spec("CNF-1")
@pytest.mark.parametrize("path", ["files/x.bin", "cases/count.json"])
def test_a_changed_byte_is_refused(folder: Path, path: str) -> None:
    data = bytearray((folder / path).read_bytes())
    data[3] ^= 1
    (folder / path).write_bytes(data)
    refused(folder, f"{path} was changed")


@pytest.mark.spec("CNF-1")
def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "files/x.bin").unlink()
    refused(folder, "x.bin", ErrorCode.E005)


@pytest.mark.spec("CNF-1")
def test_a_file_that_the_manifest_does_not_know_is_refused(folder: Path) -> None:
    (folder / "files" / "more.bin").write_bytes(b"")
    refused(folder, "files/more.bin is not in the manifest")


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "manifest.json", ErrorCode.E005)


@pytest.mark.parametrize(
    ("content", "said", "code"),
    [
        (b"{", "is not JSON", ErrorCode.E801),
        (b"\xff", "is not JSON", ErrorCode.E801),
        (b"[" * 10**5, "is not JSON", ErrorCode.E801),
        (b"[]", "is no JSON object", ErrorCode.E801),
        (b'{"spec": "2.0", "files": {}}', "spec_version", ErrorCode.E204),
        (b'{"files": {}}', "spec_version", ErrorCode.E204),
        (b'{"spec": "1.0"}', "is no manifest", ErrorCode.E801),
        (b'{"spec": "1.0", "files": []}', "is no manifest", ErrorCode.E801),
        (b'{"spec": "1.0", "files": {}, "more": 1}', "is no manifest", ErrorCode.E801),
        (b'{"spec": "1.0", "files": {"../x": "00"}}', "names a file", ErrorCode.E801),
        (b'{"spec": "1.0", "files": {"/etc/passwd": "00"}}', "names a file", ErrorCode.E801),
        (b'{"spec": "1.0", "files": {"files/x.bin": "00"}}', "has a digest", ErrorCode.E801),
    ],
)
def test_a_manifest_that_is_none_is_refused(folder: Path, content: bytes, said: str, code: ErrorCode) -> None:
    (folder / "manifest.json").write_bytes(content)
    refused(folder, said, code)


@pytest.mark.spec("CNF-2")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "A"}, "has a case of this id"),
        ({"id": "a//b"}, "has a case of this id"),
        ({"id": 3}, "has a case of this id"),
        ({"op": "dance"}, "is no case"),
        ({"flags": ["loud"]}, "is no case"),
        ({"dtypes": ["F8"]}, "is no case"),
        ({"dtypes": ["F32"]}, "has these types"),
        ({"op": "forward"}, "has these types"),
        ({"expect": {}}, "exactly one of"),
        ({"expect": {"value": {}, "code": "E101"}}, "exactly one of"),
        ({"expect": {"mood": "good"}}, "exactly one of"),
        ({"expect": "good"}, "exactly one of"),
        ({"files": 3}, "is no case"),
        ({"colour": "red"}, "is no case"),
        ({"statements": None}, "is no case"),
    ],
)
def test_a_case_that_is_none_is_refused(changes: dict[str, Any], said: str) -> None:
    assert parse_case(VALID, "here").id == "a/b"
    with pytest.raises(CompacterError, match="here") as caught:
        parse_case(VALID | changes, "here")
    assert said in str(caught.value)


@pytest.mark.parametrize("missing", sorted(VALID))
def test_a_case_needs_its_keys(missing: str) -> None:
    with pytest.raises(CompacterError, match="E801"):
        parse_case({key: value for key, value in VALID.items() if key != missing}, "here")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cases: cases + cases, "has an id twice"),
        (lambda cases: [{**cases[0], "files": {"adapter": "files/none"}}], "names a file that the suite lacks"),
        (lambda cases: [{**cases[0], "expect": {"file": "files/none"}}], "names a file that the suite lacks"),
        (lambda cases: [{**cases[0], "expect": {"tensors": "files/none"}}], "names a file that the suite lacks"),
        (lambda cases: [], "holds no case"),
        (lambda cases: {}, "is no list of cases"),
    ],
)
def test_a_list_of_cases_that_is_none_is_refused(
    tmp_path: Path, change: Callable[[list[Any]], object], said: str
) -> None:
    class Changed(Builder):
        def contents(self) -> dict[str, bytes]:
            return {
                **super().contents(),
                "cases/count.json": json_bytes({"spec": "1.0", "cases": change([dict(VALID)])}),
            }

    builder = Changed()
    builder.case(count_case())
    contents = builder.contents()
    del contents["manifest.json"]
    write_contents(tmp_path, contents)
    refused(tmp_path, said)


def write_contents(folder: Path, contents: dict[str, bytes]) -> None:
    """A folder with a right manifest, whatever it holds."""
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}
    for path, data in {**contents, "manifest.json": json_bytes({"spec": "1.0", "files": digests})}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def test_the_vectors_of_the_source_tree_are_found() -> None:
    suite = load_suite(default_suite())
    assert len(suite.cases) > 100


@pytest.mark.spec("CNF-3")
@pytest.mark.parametrize("dtype", EXACT_TYPES)
def test_numbers_are_cast_without_rounding(tmp_path: Path, dtype: DType) -> None:
    suite = forward_suite(tmp_path / "suite")
    request = materialise(suite, suite.cases["forward/integers"], dtype, scratch=tmp_path, prefix="7")
    assert request.files["adapter"].name == "7.adapter.safetensors"
    assert request.out == tmp_path / "7.out"
    adapter, original = load_adapter(request.files["adapter"]), integer_adapter()
    assert adapter.dtype is dtype
    for name, array in original.tensors.items():
        assert np.array_equal(adapter.tensors[name], array)
    sent = read_tensors(request.files["inputs"].read_bytes(), "inputs")
    original_inputs = read_tensors(suite.files["files/inputs.safetensors"], "inputs")
    for name, tensor in original_inputs.items():
        assert sent[name].dtype is dtype
        assert np.array_equal(sent[name].array, tensor.array)


@pytest.mark.parametrize("dtype", EXACT_TYPES)
def test_odd_values_and_shapes_pass(tmp_path: Path, dtype: DType) -> None:
    arrays = {
        "x": np.array([np.nan, np.inf, -np.inf, -0.0, 1.0]),
        "empty": np.zeros((0, 3)),
        "scalar": np.array(2.0),
        "deep": np.ones((1, 1, 1, 1, 1, 2)),
    }
    case = forward_case()
    suite = in_memory(case, files={"files/inputs": write_tensors(arrays, DType.F64)})
    request = materialise(suite, case, dtype, scratch=tmp_path, prefix="1")
    sent = read_tensors(request.files["inputs"].read_bytes(), "inputs")
    for name, array in arrays.items():
        assert sent[name].dtype is dtype
        assert sent[name].array.shape == array.shape
        assert np.array_equal(sent[name].array.astype(np.float64), array, equal_nan=True)
    assert np.signbit(sent["x"].array[3])


def forward_case() -> Case:
    return Case(
        id="forward/x",
        statements=("CNF-3",),
        op=Op.FORWARD,
        expect=Expectation(tensors="files/expected"),
        dtypes=EXACT_TYPES,
        files={"inputs": "files/inputs"},
    )


@pytest.mark.spec("CNF-3")
@pytest.mark.parametrize(
    ("value", "dtype"),
    [(1 + 2.0**-8, DType.BF16), (1 + 2.0**-11, DType.F16), (1 + 2.0**-24, DType.F32), (1e5, DType.F16)],
)
def test_a_value_that_would_be_rounded_is_refused(tmp_path: Path, value: float, dtype: DType) -> None:
    case = forward_case()
    suite = in_memory(case, files={"files/inputs": write_tensors({"x": np.array([1.0, value])}, DType.F64)})
    with pytest.raises(CompacterError, match=f"tensor x of files/inputs is not exact in {dtype.value}"):
        materialise(suite, case, dtype, scratch=tmp_path, prefix="1")


def test_an_adapter_that_would_be_rounded_is_refused(tmp_path: Path) -> None:
    adapter = integer_adapter(CONFIG)
    adapter.tensors["shared.phm_rule"][0, 0, 0] = 1.0 + 2.0**-30
    case = Case(**{**fields_of(forward_case()), "files": {"adapter": "files/adapter"}})
    suite = in_memory(case, files={"files/adapter": adapter_bytes(adapter)})
    with pytest.raises(CompacterError, match=r"tensor shared.phm_rule of files/adapter is not exact in F32"):
        materialise(suite, case, DType.F32, scratch=tmp_path, prefix="1")


def fields_of(case: Case) -> dict[str, Any]:
    return {name: getattr(case, name) for name in case.__slots__}


def recipe_suite(value: object) -> tuple[Suite, Case]:
    case = count_case(files={"adapter": "files/a.safetensors.recipe.json"})
    return in_memory(case, files={"files/a.safetensors.recipe.json": json.dumps(value).encode()}), case


def test_a_recipe_is_made(tmp_path: Path) -> None:
    segments = [
        {"hex": "00ff", "times": 3},
        {"text": "größer"},
        {"text": "ab", "times": 3 * 2**20 + 1},
        {"hex": "", "times": 5},
        {"text": "no", "times": 0},
    ]
    suite, case = recipe_suite({"segments": segments})
    request = materialise(suite, case, None, scratch=tmp_path, prefix="1")
    assert request.files["adapter"].name == "1.adapter.safetensors"
    expected = b"\x00\xff" * 3 + "größer".encode() + b"ab" * (3 * 2**20 + 1)
    assert request.files["adapter"].read_bytes() == expected


@pytest.mark.parametrize(
    "segment",
    [{}, {"hex": "0"}, {"hex": "00", "text": "a"}, {"text": "a", "times": -1}, {"text": "a", "times": 1.5}, 3],
)
def test_a_recipe_that_is_none_is_refused(tmp_path: Path, segment: object) -> None:
    suite, case = recipe_suite({"segments": [segment]})
    with pytest.raises(CompacterError, match="is no recipe"):
        materialise(suite, case, None, scratch=tmp_path, prefix="1")


def test_other_files_go_as_they_are(tmp_path: Path) -> None:
    case = count_case(files={"model": "files/m.onnx"})
    request = materialise(
        in_memory(case, files={"files/m.onnx": b"\x00bytes"}),
        case,
        None,
        scratch=tmp_path,
        prefix="1",
        args={"seed": 2},
    )
    assert request.files["model"].name == "1.model.onnx"
    assert request.files["model"].read_bytes() == b"\x00bytes"
    assert request.args == {"config": {"answer": 3}, "seed": 2}
