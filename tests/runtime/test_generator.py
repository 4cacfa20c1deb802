"""Writing without PyTorch: greedy tokens, ends, padding and forced tokens, texts, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_core.errors import CompacterError, ErrorCode
from compacter_runtime import Generator
from compacter_runtime.generation_settings import GenerationSettings
from compacter_runtime.generator import Written
from tests.support.blocking import run_blocked
from tests.support.served import END, START, WORDS
from tests.support.writing import PADDING, VOCABULARY, sums, write_decoder, write_encoder_decoder

PROMPTS = st.lists(st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=4), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """A decoder that never ends."""
    return Generator(write_decoder(tmp_path_factory.mktemp("endless"), {}))


def padded(rows: list[list[int]]) -> Any:
    """The rows as an array with padding on the left, and its mask."""
    length = max(map(len, rows))
    tokens = np.array([[PADDING] * (length - len(row)) + row for row in rows])
    return {"input_ids": tokens, "attention_mask": (tokens != PADDING).astype(np.int64)}


@settings(max_examples=20)
@given(rows=PROMPTS, count=st.integers(1, 6))
def test_the_next_token_follows_from_all_before(generator: Generator, rows: list[list[int]], count: int) -> None:
    inputs = padded(rows)
    tokens = generator.generate(inputs, max_new_tokens=count)
    assert tokens.tolist() == [sums(row, count) for row in inputs["input_ids"].tolist()]


def test_rows_end_and_are_padded(tmp_path: Path) -> None:
    """[1, 2] goes on with 3, 6; [2, 3] with 5, 10, 0, which is padding that happens to be written."""
    generator = Generator(write_decoder(tmp_path, {"eos_token_id": [6, 18]}))
    tokens = generator.generate({"input_ids": [[1, 2], [2, 3]]}, max_new_tokens=4)
    assert tokens.tolist() == [[1, 2, 3, 6, 0, 0], sums([2, 3], 4)]
    assert generator.generate({"input_ids": [[1, 2]]}, max_new_tokens=9).tolist() == [[1, 2, 3, 6]]


def test_forced_tokens(tmp_path: Path) -> None:
    generator = Generator(write_decoder(tmp_path, {"forced_bos_token_id": 7, "forced_eos_token_id": 4}))
    assert generator.generate({"input_ids": [[1, 2]]}, max_new_tokens=3).tolist() == [[1, 2, 7, 10, 4]]


def test_texts_become_texts(generator: Generator) -> None:
    texts = ["a b c", "d"]
    rows = [[WORDS.index(START), *(WORDS.index(word) for word in text.split()), WORDS.index(END)] for text in texts]
    # The tokenizer pads with a token of its own, which counts here as any other does.
    rows[1] = [WORDS.index("[PAD]")] * 2 + rows[1]
    new = [sums(row, 5)[len(row) :] for row in rows]
    special = {"[UNK]", START, END, "[PAD]"}
    written = generator.write(texts, max_new_tokens=5)
    assert [text.split() for text in written] == [
        [WORDS[token] for token in row if WORDS[token] not in special] for row in new
    ]


def test_what_was_written_ends_where_the_row_ends(tmp_path: Path) -> None:
    """`[CLS] a [SEP]` is 1 4 2, and goes on with 7, 14; with b for a it is 1 5 2, and goes on with 8, 16, 12, 4."""
    generator = Generator(write_decoder(tmp_path, {"eos_token_id": 14}))
    expected = [Written("d k", (7, 14)), Written("e m i a", (8, 16, 12, 4))]
    assert generator.written(["a", "b"], max_new_tokens=4) == expected
    assert generator.written([]) == []


def test_behind_an_encoder(tmp_path: Path) -> None:
    """The decoder starts with 1; the encoder's tokens are added to its own in every step."""
    generator = Generator(write_encoder_decoder(tmp_path, {"decoder_start_token_id": 1}))
    inputs = {"input_ids": [[3, 2], [4, 9]], "attention_mask": [[1, 1], [1, 0]]}
    expected = [[1, 6, 12, 4], [1, 5, 10, 0]]
    assert generator.generate(inputs, max_new_tokens=3).tolist() == expected


def test_a_file_of_a_decoder(generator: Generator) -> None:
    inputs = {"input_ids": [[1, 2]]}
    one = Generator(generator.directory / "model.onnx")
    assert np.array_equal(one.generate(inputs), generator.generate(inputs))
    assert one.providers == generator.providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda one: one.generate({"input_ids": [[1]]}, max_new_tokens=0), ErrorCode.E001),
        (lambda one: one.generate("a text"), ErrorCode.E703),
        (lambda one: one.generate({"input_ids": [1, 2]}), ErrorCode.E703),
        (lambda one: one.generate({"input_ids": [[0.5]]}), ErrorCode.E703),
        (lambda one: one.generate({"input_ids": [[1]], "attention_mask": [[1, 1]]}), ErrorCode.E703),
        (lambda one: one.generate({"input_ids": [[1]], "token_type_ids": [[1]]}), ErrorCode.E703),
        (lambda one: one.generate({}), ErrorCode.E703),
        (lambda one: one.generate({"input_ids": [[1], [1]], "attention_mask": [[1], [0]]}), ErrorCode.E703),
        (lambda one: one.generate({"input_ids": [[1]]}, adapter="mine"), ErrorCode.E703),
        (lambda one: one.load_adapter("mine"), ErrorCode.E703),
        (lambda one: one.adapters.add("mine"), ErrorCode.E703),
    ],
)
def test_refusals(generator: Generator, call: Callable[[Generator], object], code: ErrorCode) -> None:
    with pytest.raises(CompacterError) as caught:
        call(generator)
    assert caught.value.code is code


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(CompacterError) as caught:
        Generator(tmp_path)
    assert caught.value.code is ErrorCode.E704
    folder = write_decoder(tmp_path / "model", {})
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CompacterError) as caught:
        Generator(folder).write(["a"])
    assert caught.value.code is ErrorCode.E702
    for text in ("{", "[]"):
        (folder / "config.json").write_text(text)
        with pytest.raises(CompacterError) as caught:
            Generator(folder)
        assert caught.value.code is ErrorCode.E704


def test_settings_come_from_both_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 1, "pad_token_id": 5, "bos_token_id": 3}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 4], "pad_token_id": None}))
    assert GenerationSettings.of(tmp_path) == GenerationSettings(start=3, ends=(2, 4), padding=5)


def test_writing_needs_neither_pytorch_nor_the_tools_of_export(tmp_path: Path) -> None:
    write_decoder(tmp_path, {})
    code = (
        "from compacter_runtime import Generator\n"
        f"print(Generator({str(tmp_path)!r}).generate({{'input_ids': [[1, 2]]}}, max_new_tokens=3).tolist())"
    )
    done = run_blocked(code, ("torch", "transformers", "onnx", "onnx_ir", "onnxscript"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [sums([1, 2], 3)]
