"""The quickstart's data and backbone: no leaks, no luck, no unchecked weights."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training import Columns, read_file
from examples.quickstart import docstrings
from examples.quickstart.backbone import FILES, WEIGHTS, check_weights, provide_backbone

SIZES = {"test": 6, "validation": 15, "train": 33}
NAMES = [f"quickstart_toy_{letter}" for letter in "abc"]


@pytest.fixture
def fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Folders of three importable packages, ten files each; sentences are shared between them and within them."""
    for name in NAMES:
        folder = tmp_path / name / "field" / "deep"
        folder.mkdir(parents=True)
        shared = [f'def g{i}():\n    """Return the common  thing {i}!\n\n    More text.\n    """\n' for i in range(9)]
        for file in range(10):
            own = [f'def f{i}():\n    """Compute own thing {name[-1]} file {file} item {i}."""\n' for i in range(9)]
            again = [
                f'def h{i}():\n    """compute OWN thing, {name[-1]} file {file - 1} item {i}"""\n' for i in range(9)
            ]
            (folder / f"code{file}.py").write_text("\n".join([*own, *shared, *again]))
        outside = 'raise RuntimeError("never import me")\n\n\ndef f():\n    """Compute a thing outside the folder."""\n'
        (tmp_path / name / "__init__.py").write_text(outside)
        (folder / "broken.py").write_text("def (:\n")
        (folder / "test_code.py").write_text(f'"""Compute a thing of the tests of {name}."""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    return {name[-1]: f"{name}/field" for name in NAMES}


def test_no_sentence_is_in_two_rows_and_no_file_in_two_splits(fields: dict[str, str]) -> None:
    splits = docstrings.build(fields, sizes=SIZES)
    parts = {split: [docstrings.normalise(row.text) for row in rows] for split, rows in splits.items()}
    everything = [key for part in parts.values() for key in part]
    assert len(set(everything)) == len(everything)
    assert all(key.startswith("compute own thing") for key in everything)
    files = [{key.split(" item")[0] for key in part} for part in parts.values()]
    assert len(set.union(*files)) == sum(len(names) for names in files)
    for split, size in SIZES.items():
        assert Counter(row.label for row in splits[split]) == dict.fromkeys(fields, size)
    assert not set(NAMES) & sys.modules.keys()


def test_the_same_packages_give_the_same_rows(fields: dict[str, str], tmp_path: Path) -> None:
    splits = docstrings.build(fields, sizes=SIZES)
    assert docstrings.build(fields, sizes=SIZES) == splits
    paths = docstrings.write(splits, tmp_path / "data")
    assert paths == docstrings.split_paths(tmp_path / "data")
    for split, path in paths.items():
        assert [(row.text, row.label) for row in read_file(path, Columns())] == [
            (row.text, row.label) for row in splits[split]
        ]


def test_tests_and_what_lies_outside_the_folder_are_not_read(fields: dict[str, str]) -> None:
    keys = {key for folder in fields.values() for file in docstrings._files(folder) for key in file}
    assert len(keys) == 90 * len(fields) + 9  # the common things
    assert not any("tests" in key or "outside" in key for key in keys)


# A field has 90 sentences in files of 0, 9 or 18, of which the other two splits leave 63.
@pytest.mark.parametrize(("train", "fits"), [(63, True), (64, False)])
def test_a_field_with_too_few_docstrings_is_refused(fields: dict[str, str], train: int, fits: bool) -> None:
    sizes = {**SIZES, "train": train}
    if fits:
        assert len(docstrings.build(fields, sizes=sizes)["train"]) == train * len(fields)
        return
    with pytest.raises(CompacterError) as caught:
        docstrings.build(fields, sizes=sizes)
    assert caught.value.code is ErrorCode.E801


def test_a_package_that_is_not_installed_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(CompacterError) as caught:
        docstrings.build({**fields, "none": "no_such_package/field"}, sizes=SIZES)
    assert caught.value.code is ErrorCode.E801


def test_files_fill_a_split_with_the_fewest_rows_too_many() -> None:
    assert docstrings._filling([9, 7, 4, 3], 10) == (1, 3)
    assert docstrings._filling([9, 8, 6], 7) == (1,)
    assert docstrings._filling([2, 3], 7) == (0, 1)


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return the sum of two arrays. And more.", "Return the sum of two arrays."),
        ("Return the sum, e.g. of\n    two arrays.\n\nMore.", "Return the sum, e.g. of two arrays."),
        ("Turn it into a sympy.Matrix or nx.Graph.", "Turn it into a library.Matrix or library.Graph."),
        ("A SymPy object and a NETWORKX graph.", "A library object and a library graph."),
        ("The sympyx is no package here.", "The sympyx is no package here."),
        ("Too short.", None),
        ("add(x1, x2, /, out=None, *, where=True, 1, 2, 3, 4, 5, 6, 7)", None),
        ("word " * 30, None),
    ],
)
def test_first_sentences(docstring: str, sentence: str | None) -> None:
    assert docstrings.first_sentence(docstring) == sentence


def test_no_row_names_a_package() -> None:
    for name in {folder.partition("/")[0] for folder in docstrings.FIELDS.values()}:
        masked = docstrings.first_sentence(f"This sentence is about {name} and nothing else.")
        assert masked == "This sentence is about library and nothing else."


def test_other_weights_are_refused(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(CompacterError) as caught:
        provide_backbone(tmp_path)
    assert caught.value.code is ErrorCode.E403
    digest = "c82ad38ffea7de8f4cf8cfa82b16d1d8bb3ad3e3a7eb1a3aa9ba6a8a4b4ec0a2"
    with pytest.raises(CompacterError, match=digest):
        check_weights(tmp_path / WEIGHTS, digest)
