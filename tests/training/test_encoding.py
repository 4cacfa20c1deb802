"""Rows as token ids: which tokens count, and what is cut."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training import Columns
from compacter_core.pytorch.training.task import Task
from compacter_core.pytorch.training.tasks import STRATEGIES, Limits, Strategy
from compacter_core.rows import Row

PLAIN = Columns()
WIDE = Limits(32, 32)


def strategy_of(task: Task, rows: list[dict[str, Any]]) -> tuple[Strategy[Any], list[Any]]:
    raw = [Row(f"here:{number}", fields) for number, fields in enumerate(rows, start=1)]
    strategy = STRATEGIES[task].of(raw, PLAIN, None)
    return strategy, list(strategy.parse(raw, "here"))


@pytest.fixture(scope="module")
def pieces() -> PreTrainedTokenizerFast:
    """A tokenizer that splits words: `unbound` is un ##bound, and it begins and ends a text with marks."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##bound", "cat", "##s"])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 (no password)
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def test_a_words_tag_stands_on_its_first_token(pieces: PreTrainedTokenizerFast) -> None:
    row = {"tokens": ["cats", "unbound", "cat"], "labels": ["B", "A", "B"]}
    strategy, rows = strategy_of(Task.TOKEN_CLASSIFICATION, [row])
    data = strategy.encode(rows, pieces, WIDE, training=True)
    assert data[0]["input_ids"] == [2, 6, 7, 4, 5, 6, 3]
    assert data[0]["labels"] == [-100, 1, -100, 0, -100, 1, -100]
    assert data.truncated == 0


def test_the_same_word_twice_has_two_tags(pieces: PreTrainedTokenizerFast) -> None:
    strategy, rows = strategy_of(Task.TOKEN_CLASSIFICATION, [{"tokens": ["cat", "cat"], "labels": [1, 0]}])
    assert strategy.encode(rows, pieces, WIDE, training=True)[0]["labels"] == [-100, 1, 0, -100]


@pytest.mark.parametrize(("length", "cut"), [(7, 0), (6, 1), (5, 1), (4, 1)])
def test_words_behind_the_limit_are_counted_as_cut(pieces: PreTrainedTokenizerFast, length: int, cut: int) -> None:
    row = {"tokens": ["cats", "unbound", "cat"], "labels": ["B", "A", "B"]}
    strategy, rows = strategy_of(Task.TOKEN_CLASSIFICATION, [row])
    data = strategy.encode(rows, pieces, Limits(length, 1), training=True)
    assert (data.truncated, data.lengths) == (cut, (length,))


@pytest.mark.parametrize(
    "row",
    [
        {"tokens": "cat", "labels": ["B"]},
        {"tokens": ["cat"], "labels": "B"},
        {"tokens": ["cat"], "labels": ["B", "A"]},
        {"tokens": [], "labels": []},
        {"tokens": [1], "labels": ["B"]},
        {"tokens": ["cat"], "labels": [0.5]},
        {"tokens": ["cat"]},
    ],
)
def test_unfit_words_and_tags_are_refused(row: dict[str, Any]) -> None:
    fit = {"tokens": ["cat", "cat"], "labels": ["A", "B"]}
    with pytest.raises(CompacterError, match="here:2") as caught:
        strategy_of(Task.TOKEN_CLASSIFICATION, [fit, row])
    assert caught.value.code is ErrorCode.E801


def test_a_tag_without_training_rows_is_refused() -> None:
    strategy, _ = strategy_of(Task.TOKEN_CLASSIFICATION, [{"tokens": ["cat", "cat"], "labels": ["A", "B"]}])
    with pytest.raises(CompacterError, match="there:7") as caught:
        strategy.parse([Row("there:7", {"tokens": ["cat"], "labels": ["C"]})], "there")
    assert caught.value.code is ErrorCode.E802


def test_a_prompt_counts_for_nothing_and_the_end_is_learnt(gpt2_backbone: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gpt2_backbone)
    rows = [{"text": "cat dog", "target": "red"}, {"text": "cat dog"}]
    strategy, parsed = strategy_of(Task.CAUSAL_LM, rows)
    prompted, plain = strategy.encode(parsed, tokenizer, WIDE, training=True).rows
    cat, dog, red, end = tokenizer.convert_tokens_to_ids(["cat", "dog", "red", "[SEP]"])
    assert prompted["input_ids"] == [cat, dog, red, end]
    assert prompted["labels"] == [-100, -100, red, end]
    assert plain["input_ids"] == plain["labels"] == [cat, dog, end]


@pytest.mark.parametrize(("length", "expected"), [(4, [1, 2]), (3, [2]), (2, [2])])
def test_a_prompt_makes_room_for_its_target(gpt2_backbone: Path, length: int, expected: list[int]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gpt2_backbone)
    names = {1: "cat", 2: "dog"}
    strategy, parsed = strategy_of(Task.CAUSAL_LM, [{"text": "cat dog", "target": "red"}])
    data = strategy.encode(parsed, tokenizer, Limits(length, 1), training=True)
    prompt = [token for token, label in zip(data[0]["input_ids"], data[0]["labels"], strict=True) if label == -100]
    assert tokenizer.convert_ids_to_tokens(prompt) == [names[one] for one in expected]
    assert data.lengths == (min(length, 4),)
    assert data.truncated == (length < 4)


def test_a_text_and_its_target_are_encoded_apart(t5_backbone: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(t5_backbone)
    strategy, rows = strategy_of(Task.SEQ2SEQ, [{"text": "cat dog cow", "target": "red"}])
    data = strategy.encode(rows, tokenizer, Limits(3, 8), training=True)
    assert tokenizer.convert_ids_to_tokens(data[0]["input_ids"]) == ["cat", "dog", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(data[0]["labels"]) == ["red", "[SEP]"]
    assert data.truncated == 1


@pytest.mark.parametrize("value", ["x", True, [1.0], "nan", float("inf")])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(CompacterError, match="here:2") as caught:
        strategy_of(Task.REGRESSION, [{"text": "cat", "label": 0.5}, {"text": "cat", "label": value}])
    assert caught.value.code is ErrorCode.E801


def test_numbers_may_be_written_as_texts() -> None:
    _, rows = strategy_of(Task.REGRESSION, [{"text": "cat", "label": "3.200"}, {"text": "cat", "label": 2}])
    assert [row.number for row in rows] == [3.2, 2.0]
