"""The quickstart's data and backbone: no leaks, no luck, no unchecked weights."""

import sys
from pathlib import Path

import pytest

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.pytorch.training import Columns, read_file
from examples.quickstart import docstrings
from examples.quickstart.backbone import FILES, WEIGHTS, check_weights, provide_backbone

SIZES = {"test": 3, "validation": 6, "train": 11}
MORE = {"test": 3, "validation": 6, "train": 100}
NAMES = [f"quickstart_toy_{letter}" for letter in "abcdefgh"]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Eight importable packages of ten files with docstrings; each shares sentences with the others and with itself."""
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir()
        shared = [f'def g{i}():\n    """Return the common  thing {i}!\n\n    More text.\n    """\n' for i in range(9)]
        for file in range(10):
            own = [f'def f{i}():\n    """Compute own thing {name[-1]} file {file} item {i}."""\n' for i in range(9)]
            again = [
                f'def h{i}():\n    """compute OWN thing, {name[-1]} file {file - 1} item {i}"""\n' for i in range(9)
            ]
            (folder / f"code{file}.py").write_text("\n".join([*own, *shared, *again]))
        (folder / "__init__.py").write_text("raise RuntimeError('never import me')\n" if name == NAMES[0] else "")
        (folder / "broken.py").write_text("def (:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return NAMES


def sentences(rows: tuple[docstrings.Row, ...]) -> list[str]:
    return [docstrings.normalise(part) for row in rows for part in row.text.strip(".").split(". ")]


def test_no_sentence_is_in_two_rows_and_no_file_in_two_splits(packages: list[str]) -> None:
    splits = docstrings.build(packages, sizes=SIZES, min_train=11)
    parts = {split: sentences(rows) for split, rows in splits.items()}
    everything = [key for part in parts.values() for key in part]
    assert len(set(everything)) == len(everything) == 3 * 20 * len(packages)
    assert not any("common" in key for key in everything)
    files = [{key.split(" item")[0] for key in part} for part in parts.values()]
    assert len(set.union(*files)) == sum(len(names) for names in files)
    for split, count in SIZES.items():
        rows = splits[split]
        assert {name: sum(row.label == name for row in rows) for name in packages} == dict.fromkeys(packages, count)
    assert not set(NAMES) & sys.modules.keys()


def test_the_same_packages_give_the_same_rows(packages: list[str]) -> None:
    once = docstrings.build(packages, sizes=SIZES, min_train=11)
    assert docstrings.build(packages, sizes=SIZES, min_train=11) == once


def test_the_first_eight_packages_with_enough_rows_are_the_classes(packages: list[str], tmp_path: Path) -> None:
    splits = docstrings.build(["no_such_package", *packages, "json"], sizes=SIZES, min_train=11)
    assert {row.label for row in splits["train"]} == set(packages)
    paths = docstrings.write(splits, tmp_path / "data")
    assert paths == docstrings.split_paths(tmp_path / "data")
    for split, path in paths.items():
        assert [(row.text, row.label) for row in read_file(path, Columns())] == [
            (row.text, row.label) for row in splits[split]
        ]


def test_training_rows_are_what_the_other_splits_leave(packages: list[str]) -> None:
    # Ten files of three rows each; the sentences that files repeat from the one before are dropped.
    splits = docstrings.build(packages, sizes=MORE, min_train=21)
    assert {split: len(rows) for split, rows in splits.items()} == {"test": 24, "validation": 48, "train": 21 * 8}
    with pytest.raises(CompacterError):
        docstrings.build(packages, sizes=MORE, min_train=22)


def test_too_few_packages_are_refused(packages: list[str]) -> None:
    with pytest.raises(CompacterError) as caught:
        docstrings.build([*packages[1:], "no_such_package"], sizes=SIZES, min_train=11)
    assert caught.value.code is ErrorCode.E801


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return the sum of two arrays. And more.", "Return the sum of two arrays."),
        ("Return the sum, e.g. of\n    two arrays.\n\nMore.", "Return the sum, e.g. of two arrays."),
        ("Turn it into a numpy.ndarray or np.matrix.", "Turn it into a library.ndarray or library.matrix."),
        ("A PyTorch tensor and a TORCH module.", "A library tensor and a library module."),
        ("The torchbearer is no package here.", "The torchbearer is no package here."),
        ("Too short.", None),
        ("add(x1, x2, /, out=None, *, where=True, 1, 2, 3, 4, 5, 6, 7)", None),
        ("word " * 30, None),
    ],
)
def test_first_sentences(docstring: str, sentence: str | None) -> None:
    assert docstrings.first_sentence(docstring) == sentence


def test_no_row_names_a_package() -> None:
    for name in docstrings.PACKAGES:
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
