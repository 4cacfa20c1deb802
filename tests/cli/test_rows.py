"""Rows of data files, and the items `compacter run` makes of them."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compacter_core.cli.texts import Item, read_items
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.rows import read_rows

_text = st.text(st.characters(codec="utf-8"), min_size=1)
_cell = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1)


def _write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@given(rows=st.lists(st.tuples(_text, _text)))
def test_jsonl_of_any_text(folder: Path, rows: list[tuple[str, str]]) -> None:
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
    path = _write(folder / "rows.jsonl", "\n".join(lines))
    assert read_items([], path) == [Item(text, None, label) for text, label in rows]
    assert [row.place for row in read_rows(Path(path))] == [f"{path}:{i + 1}" for i in range(len(rows))]


@given(rows=st.lists(st.tuples(_cell, _cell)), suffix=st.sampled_from([(".csv", ","), (".tsv", "\t")]))
def test_delimited_of_any_text(folder: Path, rows: list[tuple[str, str]], suffix: tuple[str, str]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=suffix[1], lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "text_pair"), *rows])
    path = _write(folder / f"rows{suffix[0]}", buffer.getvalue())
    assert [item.model_input for item in read_items([], path)] == rows


def test_unicode_line_separators_end_no_row(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three\x0cfour"
    assert read_items([], _write(tmp_path / "a.csv", f"text,label\n{text},x\n")) == [Item(text, None, "x")]
    assert read_items([], _write(tmp_path / "a.txt", f"{text}\n")) == [Item(text)]


def test_integers_as_labels_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.jsonl", '\ufeff{"text": "a", "label": 3}\n\n{"text": "b"}\n')
    assert read_items([], path) == [Item("a", None, "3"), Item("b")]


def test_other_files_hold_one_text_per_line(tmp_path: Path) -> None:
    assert read_items([], _write(tmp_path / "a.txt", "one\r\n\ntwo")) == [Item("one"), Item(""), Item("two")]
    assert read_items([], _write(tmp_path / "b.txt", "")) == []


@pytest.mark.parametrize("source", [None, "-"])
def test_standard_input_holds_one_text_per_line(monkeypatch: pytest.MonkeyPatch, source: str | None) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    assert read_items([], source) == [Item("one"), Item("two")]


def test_arguments_are_texts() -> None:
    assert read_items(["a", "-"], None) == [Item("a"), Item("-")]


def test_arguments_and_a_file_exclude_each_other() -> None:
    with pytest.raises(CompacterError) as caught:
        read_items(["a"], "b.txt")
    assert caught.value.code is ErrorCode.E703


def test_a_terminal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    with pytest.raises(CompacterError) as caught:
        read_items([], None)
    assert caught.value.code is ErrorCode.E703


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "a"}\n{', ":2: not JSON"),
        ("a.jsonl", "[" * 100_000, ":1: not JSON"),
        ("a.jsonl", '\n["a"]', ":2: not a JSON object"),
        ("a.jsonl", '{"txt": "a"}', ":1: no text"),
        ("a.jsonl", '{"text": 3}', ":1: no text"),
        ("a.jsonl", '{"text": "a", "text_pair": 3}', ":1: text_pair"),
        ("a.csv", "text,label\na,b,c\n", ":2: the row has another number of fields"),
        ("a.csv", 'text\n"a', ":2: unexpected end"),
        ("a.csv", "label\nx\n", ":2: no text"),
        ("a.txt", b"ok\n\xff", ":2: not UTF-8"),
    ],
)
def test_complaints_name_file_and_line(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    path = _write(tmp_path / name, content)
    with pytest.raises(CompacterError) as caught:
        read_items([], path)
    assert caught.value.code is ErrorCode.E801
    assert f"{path}{said}" in str(caught.value)


def test_unknown_formats_are_e801_and_absent_files_e005(tmp_path: Path) -> None:
    with pytest.raises(CompacterError) as unknown:
        read_rows(tmp_path / "a.parquet")
    assert unknown.value.code is ErrorCode.E801
    with pytest.raises(CompacterError) as absent:
        read_rows(tmp_path / "a.csv")
    assert absent.value.code is ErrorCode.E005
