"""The cases about files: complete, the same every time, and made by rules that agree with the library's own."""

import json
import struct
from fractions import Fraction

import numpy as np
import pytest

from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.files_bytes import RawTensor, pack, unpack
from compacter_core.conformance.generate.files_canonical import canonical_text
from compacter_core.conformance.generate.files_cases import add_file_cases
from compacter_core.conformance.generate.files_grafts import PATTERNS, POST, PRE, TOKENS
from compacter_core.conformance.generate.files_graphs import Spelling, ToyWriter
from compacter_core.conformance.generate.files_misshapen import CHANGES
from compacter_core.conformance.generate.files_samples import full_config, sample
from compacter_core.conformance.generate.files_sketches import positions
from compacter_core.conformance.generate.files_toys import Norm, Rows, Toy
from compacter_core.conformance.onnx_evaluation import onnx_evaluator
from compacter_core.conformance.specification import file_codes, statements
from compacter_core.conformance.tensor_files import read_tensors
from compacter_core.conformance.words import Op
from compacter_core.errors import ErrorCode
from compacter_core.format.config_json import config_from_json, config_to_json
from compacter_core.format.reader import parse_adapter
from compacter_core.format.sketch import sketch_indices
from compacter_core.format.writer import adapter_bytes
from tests.conformance.file_suite import contents, file_cases, suite

LARGEST = 2_500_000
"""Bytes of the cases about files, so that the whole suite stays below 8 MB."""

SPLITMIX64_1234567 = (6457827717110365317, 3203168211198807973, 9817491932198370423)
"""First outputs of SplitMix64 from state 1234567, a published test vector of the generator."""


def test_the_suite_is_the_same_every_time() -> None:
    builder = Builder()
    add_file_cases(builder)
    assert builder.contents() == contents()


def test_the_suite_is_small() -> None:
    assert sum(map(len, contents().values())) < LARGEST


@pytest.mark.spec("ERR-2", "ERR-3")
def test_every_file_code_has_a_case_and_no_case_has_another() -> None:
    expected = {case.expect.code for case in file_cases()} - {None}
    assert expected == set(file_codes())


def test_file_codes_are_those_of_the_specification() -> None:
    groups = {"E1": 12, "E2": 11, "E3": 9, "E4": 5, "E6": 4}
    assert {group: sum(code.startswith(group) for code in file_codes()) for group in groups} == groups
    assert set(file_codes()) < {code.name for code in ErrorCode}


def test_every_statement_of_files_that_a_case_can_test_is_cited() -> None:
    """The others are about what no answer shows, or are permissions."""
    untestable = {
        "FMT-17",  # also: what is not kept, which `read` does not show
        "FMT-36",  # the copy that a profile has
        "FMT-37",  # what a reader MAY refuse
        "CFG-19",
        "SEC-9",  # files replaced as a whole
        "SEC-10",  # messages
        "SEC-11",
        "SEC-12",  # external data
        "SEC-13",  # a digest that the user gives
        "SEC-14",  # pipes and devices
        "VER-5",  # other versions' suites
        "ONX-2",  # the form is the implementation's choice
        "ONX-9",  # where an exporter leaves module names
        "ONX-14",  # names in the grafted graph
        # Several graphs of one backbone, fused or quantised ones, other forms: the protocol hands over a plain graph.
        *(f"ONX-{number}" for number in (*range(23, 50), *range(51, 56))),
        "SKT-13",  # quantised weights of a framework
    }
    cited = {statement for case in file_cases() for statement in case.statements}
    stated = {name for name in statements() or () if name.split("-")[0] in ("FMT", "CFG", "SKT", "ONX", "VER", "SEC")}
    assert stated - cited <= untestable, sorted(stated - cited - untestable)


@pytest.mark.spec("FMT-34")
def test_reading_a_valid_file_and_writing_it_gives_canonical_bytes_that_stay() -> None:
    read = [case for case in file_cases(limits=False) if case.op is Op.READ and case.expect.value is not None]
    for case in read:
        once = adapter_bytes(parse_adapter(suite().files[case.files["adapter"]]))
        assert adapter_bytes(parse_adapter(once)) == once, case.id


@pytest.mark.parametrize("config", [full_config(), full_config(scaling=1e-7, training={"é": "\x01/\x7f", "b": [0.1]})])
def test_the_canonical_text_is_the_librarys(config: dict[str, object]) -> None:
    assert canonical_text(config) == config_to_json(config_from_json(json.dumps(config)))


@pytest.mark.spec("SKT-1")
def test_sketch_positions() -> None:
    size = 1234567
    assert {z % size for z in SPLITMIX64_1234567} <= set(positions((size,)))
    for shape in ((256,), (257,), (16, 16), (16, 17), (17, 16), (3072, 768)):
        assert positions(shape) == sketch_indices(shape).tolist()


@pytest.mark.parametrize(("dtype", "value"), [("F16", 0.1), ("BF16", 1.0 + 2.0**-8), ("F32", 0.1), ("F16", 1e6)])
def test_values_that_a_type_does_not_hold_are_refused(dtype: str, value: float) -> None:
    with pytest.raises((ValueError, OverflowError, struct.error)):
        pack(dtype, [value])


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_values_are_packed_as_the_library_decodes_them(dtype: str) -> None:
    config = full_config()
    file = sample(config, dtype=dtype, sketches=True)
    adapter = parse_adapter(file.encoded())
    for name, array in {**adapter.tensors, **adapter.sketches}.items():
        tensor = file.tensors[name]
        assert unpack(tensor.dtype, tensor.data) == array.astype(float).reshape(-1).tolist()


def test_a_number_of_values_that_a_shape_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="3 values"):
        RawTensor.of("F32", (2, 2), [1, 2, 3])


def test_names_of_wrong_configurations_are_unique_within_a_code() -> None:
    names = [(code, name) for code, _, name, _, _ in CHANGES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("spelling", [Spelling(), Spelling(gemm=True), Spelling(transposed=True, opset=20)])
@pytest.mark.parametrize(("toy", "tokens"), [(PRE, TOKENS), (POST, PATTERNS)], ids=["pre", "post"])
def test_a_toy_and_its_graph_have_the_same_logits(toy: Toy, tokens: Rows, spelling: Spelling) -> None:
    rows = np.array(tokens, np.float32)
    feed = rows if spelling.gemm else rows[:, None, :]
    logits = onnx_evaluator()(ToyWriter(toy, spelling).write(), {"hidden": feed})["logits"]
    assert logits.tolist() == [[float(value) for value in row] for row in toy.logits(tokens)]


def test_decomposed_and_merged_norms_are_the_same_norms() -> None:
    unit = Norm((1, 1, 1, 1), (0, 0, 0, 0))
    toy = Toy(layers=POST.layers, norms=(unit,), first_norm=unit, head=POST.head)
    feed = np.array(PATTERNS, np.float32)[:, None, :]
    expected = [[float(value) for value in row] for row in toy.logits(PATTERNS)]
    for spelling in (Spelling(merged=True), Spelling(decomposed=True), Spelling(merged=True, decomposed=True)):
        assert onnx_evaluator()(ToyWriter(toy, spelling).write(), {"hidden": feed})["logits"].tolist() == expected


def test_a_norm_that_would_round_is_refused() -> None:
    with pytest.raises(ValueError, match="no power of two"):
        Norm((1, 1), (0, 0)).exact([[Fraction(0), Fraction(3)]])


def test_every_graft_changes_the_logits() -> None:
    """Otherwise a case could not tell a grafted model from the backbone."""
    evaluate = onnx_evaluator()
    for case in (case for case in file_cases() if case.op is Op.GRAFT and case.expect.tensors is not None):
        feeds = {name: t.array for name, t in read_tensors(suite().files[case.files["feeds"]], "feeds").items()}
        before = evaluate(suite().files[case.files["model"]], feeds)["logits"]
        after = read_tensors(suite().files[str(case.expect.tensors)], "expected")["logits"].array
        assert before.shape != after.shape or not np.array_equal(before, after), case.id
