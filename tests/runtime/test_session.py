"""Session against an oracle computed from the words alone: batching, padding and order must not show."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.errors import CompacterError, ErrorCode
from compacter_runtime import Session
from tests.support.served import (
    CLASSES,
    MAX_LENGTH,
    PAD_ID,
    WORD_TABLE,
    WORDS,
    Text,
    expected_hidden,
    expected_logits,
    write_served,
)

_words = st.lists(st.sampled_from(WORDS[4:]), max_size=6).map(" ".join)
_texts: st.SearchStrategy[list[Text]] = st.lists(st.one_of(_words, st.tuples(_words, _words)), max_size=9)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_served(tmp_path_factory.mktemp("served")).parent


@pytest.fixture(scope="module", params=["right", "left"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    return Session(write_served(tmp_path_factory.mktemp("served"), direction=request.param), intra_op_threads=1)


@given(texts=_texts, batch_size=st.integers(1, 10))
def test_texts_give_their_own_logits_whatever_the_batches(session: Session, texts: list[Text], batch_size: int) -> None:
    got = session.run(texts, batch_size=batch_size)["logits"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected_logits(texts))


@given(texts=_texts.filter(len), batch_size=st.integers(1, 10))
def test_outputs_with_a_sequence_axis_end_in_zeros(directory: Path, texts: list[Text], batch_size: int) -> None:
    hidden = Session(directory, intra_op_threads=1).run(texts, batch_size=batch_size)["hidden"]
    expected = np.zeros((len(texts), max(len(expected_hidden(text)) for text in texts), CLASSES), np.float32)
    for row, text in enumerate(texts):
        rows = expected_hidden(text)
        expected[row, : len(rows)] = rows
    np.testing.assert_array_equal(hidden, expected)


def test_the_side_of_the_padding_is_the_tokenizers(tmp_path: Path) -> None:
    session = Session(write_served(tmp_path, direction="left"))
    long, short = session.run(["a b c", "d"])["hidden"]
    np.testing.assert_array_equal(long, expected_hidden("a b c"))
    np.testing.assert_array_equal(short, np.vstack([np.zeros((2, CLASSES)), expected_hidden("d")]))


@pytest.mark.parametrize("as_arrays", [False, True])
def test_batches_are_no_larger_than_asked(directory: Path, monkeypatch: pytest.MonkeyPatch, as_arrays: bool) -> None:
    session = Session(directory)
    call, sizes = session._call, []

    def counting(batch: dict[str, Any], *more: Any) -> Any:
        sizes.append(len(batch["input_ids"]))
        return call(batch, *more)

    monkeypatch.setattr(session, "_call", counting)
    session.run(_arrays(7, 3) if as_arrays else ["a"] * 7, batch_size=3)
    assert sizes == [3, 3, 1]


def test_long_texts_are_truncated_as_the_tokenizer_says(session: Session) -> None:
    kept = " ".join(["a"] * (MAX_LENGTH - 2))
    np.testing.assert_array_equal(session.run([f"{kept} b c d"])["logits"], expected_logits([kept]))


def _arrays(rows: int, length: int, dtype: Any = np.int64) -> dict[str, Any]:
    ids = np.random.default_rng(rows * 31 + length).integers(4, len(WORDS), (rows, length)).astype(dtype)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


@given(rows=st.integers(0, 7), batch_size=st.integers(1, 8), dtype=st.sampled_from([np.int8, np.int32, np.uint64]))
def test_arrays_are_split_and_put_together_again(session: Session, rows: int, batch_size: int, dtype: Any) -> None:
    inputs = _arrays(rows, 5, dtype)
    got = session.run(inputs, batch_size=batch_size)["logits"]
    texts = [" ".join(WORDS[i] for i in row) for row in inputs["input_ids"]]
    framing = expected_logits([""])
    np.testing.assert_array_equal(got, expected_logits(texts) - framing if rows else np.empty((0, CLASSES)))


def test_a_session_tells_what_it_has(session: Session) -> None:
    assert session.input_names == ("input_ids", "attention_mask", "token_type_ids")
    assert session.output_names == ("logits", "hidden")
    assert session.providers == ("CPUExecutionProvider",)


def _without(name: str) -> dict[str, Any]:
    inputs = _arrays(2, 3)
    del inputs[name]
    return inputs


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        pytest.param(lambda: "one text", "one text", id="a text instead of texts"),
        pytest.param(lambda: ["a", None], "input 1", id="None among texts"),
        pytest.param(lambda: [("a", "b", "c")], "input 0", id="a triple"),
        pytest.param(lambda: _without("attention_mask"), "attention_mask", id="an input missing"),
        pytest.param(lambda: _arrays(2, 3) | {"extra": [[0]]}, "extra", id="an input too many"),
        pytest.param(lambda: _arrays(2, 3) | {"input_ids": np.ones((2, 3))}, "float64", id="floats as ids"),
        pytest.param(
            lambda: _arrays(2, 3, np.uint64) | {"input_ids": np.full((2, 3), 2**63, np.uint64)}, "uint64", id="overflow"
        ),
        pytest.param(lambda: _arrays(2, 3) | {"input_ids": [1, 2]}, "shape", id="wrong rank"),
        pytest.param(lambda: _arrays(2, 3) | {"input_ids": [[1, 2], [3]]}, "no array", id="ragged"),
        pytest.param(lambda: _arrays(2, 3) | {"token_type_ids": [[0, 0, 0]]}, "first axis", id="unequal rows"),
        pytest.param(lambda: _arrays(2, 3) | {"token_type_ids": [[0], [0]]}, "sequence", id="unequal lengths"),
        pytest.param(lambda: _arrays(2, 3) | {"input_ids": np.full((2, 3), 10**6)}, "range", id="unknown token id"),
    ],
)
def test_inputs_that_do_not_fit_are_e703(session: Session, inputs: Callable[[], Any], said: str) -> None:
    with pytest.raises(CompacterError) as caught:
        session.run(inputs())
    assert caught.value.code is ErrorCode.E703
    assert said in str(caught.value)


def test_inputs_the_tokenizer_cannot_give_are_e703(tmp_path: Path) -> None:
    model = write_served(tmp_path)
    graph = onnx.load(model)
    for node in graph.graph.node:
        node.input[:] = ["pixels" if name == "input_ids" else name for name in node.input]
    graph.graph.input[0].name = "pixels"
    onnx.save(graph, model)
    with pytest.raises(CompacterError, match="pixels") as caught:
        Session(model).run(["a"])
    assert caught.value.code is ErrorCode.E703


@pytest.mark.parametrize("keywords", [{"batch_size": 0}, {"batch_size": -1}])
def test_batch_size_out_of_range_is_e001(session: Session, keywords: dict[str, int]) -> None:
    with pytest.raises(CompacterError) as caught:
        session.run(["a"], **keywords)  # type: ignore[arg-type]  # the point of the test
    assert caught.value.code is ErrorCode.E001


def test_threads_out_of_range_are_e001(directory: Path) -> None:
    with pytest.raises(CompacterError) as caught:
        Session(directory, intra_op_threads=0)
    assert caught.value.code is ErrorCode.E001


def test_texts_without_a_tokenizer_are_e702_and_arrays_still_run(tmp_path: Path) -> None:
    model = write_served(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    session = Session(model)
    assert session.run(_arrays(2, 3))["logits"].shape == (2, CLASSES)
    with pytest.raises(CompacterError) as caught:
        session.run(["a"])
    assert caught.value.code is ErrorCode.E702


def test_a_broken_tokenizer_is_e702(tmp_path: Path) -> None:
    model = write_served(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CompacterError) as caught:
        Session(model).run(["a"])
    assert caught.value.code is ErrorCode.E702


@pytest.mark.parametrize("content", [None, b"", b"no protobuf"], ids=["absent", "empty", "garbage"])
def test_a_model_that_cannot_be_loaded_is_e704(tmp_path: Path, content: bytes | None) -> None:
    model = tmp_path / "model.onnx"
    if content is not None:
        model.write_bytes(content)
    with pytest.raises(CompacterError) as caught:
        Session(model)
    assert caught.value.code is ErrorCode.E704


def test_a_model_without_its_external_data_is_e704(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    onnx.save(onnx.load(write_served(tmp_path)), model, save_as_external_data=True, location="data", size_threshold=100)
    assert Session(model).run(["a"])["logits"].shape == (1, CLASSES)
    (tmp_path / "data").unlink()
    with pytest.raises(CompacterError) as caught:
        Session(model)
    assert caught.value.code is ErrorCode.E704


def test_padding_that_is_not_masked_would_show() -> None:
    assert WORD_TABLE[PAD_ID].any()
    assert PAD_ID != 0
