"""Reading rows: every form is read alike, and every complaint names file and line."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training import Columns, Example, Labels, load_examples, read_file

PLAIN = Columns()


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "a.jsonl",
            '{"text": "one, two", "label": "x", "id": 7}\n\n{"text": "three", "label": "y", "text_pair": null}\n',
        ),
        ("a.ndjson", '\ufeff{"text": "one, two", "label": "x"}\n\n{"text": "three", "label": "y"}'),
        ("a.csv", 'id,text,label\n7,"one, two",x\n\n8,three,y\n'),
        ("a.tsv", "text\tlabel\r\none, two\tx\r\n\r\nthree\ty\r\n"),
    ],
)
def test_every_format_gives_the_same_rows(name: str, content: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, content)
    rows = read_file(path, PLAIN)
    assert [(row.text, row.text_pair, row.label) for row in rows] == [("one, two", None, "x"), ("three", None, "y")]
    assert rows[0].place.startswith(f"{path}:")


def test_pairs_and_other_column_names(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "premise,hypothesis,gold\na,b,1\n")
    (row,) = read_file(path, Columns(text="premise", text_pair="hypothesis", label="gold"))
    assert (row.text, row.text_pair, row.label) == ("a", "b", "1")


def test_unicode_line_separators_inside_a_json_string_do_not_split_it(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"text": "one\u2028two\u0085three", "label": "x"}\n')
    assert read_file(path, PLAIN)[0].text == "one\u2028two\u0085three"


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("not JSON.jsonl", '{"text": "a", "label": "x"}\n{"text": ', 2),
        ("no object.jsonl", '["a", "x"]\n', 1),
        ("too deep.jsonl", "[" * 200_000, 1),
        ("no text.jsonl", '{"text": "a", "label": "x"}\n\n{"label": "x"}\n', 3),
        ("empty text.jsonl", '{"text": " ", "label": "x"}\n', 1),
        ("number as text.jsonl", '{"text": 3, "label": "x"}\n', 1),
        ("no label.jsonl", '{"text": "a"}\n', 1),
        ("fraction as label.jsonl", '{"text": "a", "label": 0.5}\n', 1),
        ("truth value as label.jsonl", '{"text": "a", "label": true}\n', 1),
        ("empty label.jsonl", '{"text": "a", "label": ""}\n', 1),
        ("some pairs.jsonl", '{"text": "a", "text_pair": "b", "label": "x"}\n{"text": "a", "label": "x"}\n', 2),
        ("not UTF-8.jsonl", b'{"text": "a", "label": "x"}\n{"text": "\xff", "label": "x"}\n', 2),
        ("short row.csv", "text,label\na,x\nb\n", 3),
        ("open quote.csv", 'text,label\na,x\n"b,x\n', 3),
        ("no label column.csv", "text,lable\na,x\n", 2),
    ],
)
def test_a_bad_row_is_named(name: str, content: str | bytes, line: int, tmp_path: Path) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(CompacterError) as caught:
        read_file(path, PLAIN)
    assert caught.value.code is ErrorCode.E801
    assert str(caught.value).startswith(f"E801: {path}:{line}: ")


@pytest.mark.parametrize(
    ("name", "content"), [("empty.jsonl", ""), ("header only.csv", "text,label\n"), ("a.txt", "a")]
)
def test_a_file_without_usable_rows_is_refused(name: str, content: str, tmp_path: Path) -> None:
    with pytest.raises(CompacterError) as caught:
        read_file(write(tmp_path, name, content), PLAIN)
    assert caught.value.code is ErrorCode.E801


def test_a_missing_file_is_not_taken_for_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(CompacterError) as caught:
        load_examples(str(tmp_path / "missing.jsonl"), split="train", columns=PLAIN)
    assert caught.value.code is ErrorCode.E005


def test_a_data_set_of_the_datasets_library(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write(tmp_path / "set", "train.csv", "sentence,label\nfirst,1\nsecond,0\n")
    write(tmp_path / "set", "test.csv", "sentence,label\nthird,1\n")
    columns = Columns(text="sentence")
    train = load_examples(str(tmp_path / "set"), split="train", columns=columns)
    assert [(row.text, row.label) for row in train] == [("first", "1"), ("second", "0")]
    test = load_examples(f"{tmp_path / 'set'}@test", split="train", columns=columns)
    assert [row.text for row in test] == ["third"]
    with pytest.raises(CompacterError) as caught:
        load_examples(f"{tmp_path / 'set'}@nothing", split="train", columns=columns)
    assert caught.value.code is ErrorCode.E801


def example(label: str) -> Example:
    return Example("text", None, label, "here:1")


@given(st.lists(st.text(min_size=1), min_size=2, unique=True), st.randoms())
def test_class_numbers_do_not_depend_on_the_order_of_rows(names: list[str], random: Random) -> None:
    rows = [example(name) for name in names]
    labels = Labels.of(rows)
    random.shuffle(rows)
    assert Labels.of(rows) == labels
    assert sorted(labels.index(row) for row in rows) == list(range(len(names)))


def test_numbers_are_ordered_as_numbers() -> None:
    assert Labels.of([example(str(number)) for number in (10, 9, 2)]).names == ("2", "9", "10")
    assert Labels.of([example(name) for name in ("10", "9", "x")]).names == ("10", "9", "x")


def test_one_class_is_no_task() -> None:
    with pytest.raises(CompacterError) as caught:
        Labels.of([example("x"), example("x")])
    assert caught.value.code is ErrorCode.E801
