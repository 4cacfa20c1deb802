"""A text classification data set that every machine has: which Python package does this docstring sentence come from?

The rows are the first sentences of the docstrings of installed packages, read from their source files without
importing them. Package names are masked, so that a row cannot be solved by reading its answer off. The choice of rows
depends only on the installed packages and on `SEED`: files and sentences are ordered by a seeded hash.
"""

import ast
import hashlib
import importlib.util
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tqdm import tqdm

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_write

SEED: Final = 1
PACKAGES: Final = (
    "fontTools",
    "huggingface_hub",
    "matplotlib",
    "networkx",
    "numpy",
    "onnxscript",
    "pandas",
    "sympy",
    "torch",
    "transformers",
)
MIN_CLASSES: Final = 8
TRAIN_ROWS: Final = 300
VALIDATION_ROWS: Final = 120
MIN_WORDS: Final = 6
MAX_WORDS: Final = 24

# More sentences are read than needed, since those that two packages share are dropped afterwards.
_READ_AHEAD: Final = 1.15
_PLACEHOLDER: Final = "library"
_ALIASES: Final = (
    "pytorch", "hugging face", "huggingface", "hf", "np", "pd", "plt", "mpl", "pyplot", "nx", "onnx", "otlib",
)  # fmt: skip
_NAMES = re.compile(
    "(?<![a-z0-9])(" + "|".join(re.escape(name.lower()) for name in (*PACKAGES, *_ALIASES)) + ")(?![a-z0-9])",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s")
_LETTERS = re.compile(r"[A-Za-z]")
_WORD = re.compile(r"[a-z0-9]+")
_MIN_LETTER_SHARE: Final = 0.6


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One sentence and the package it comes from."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Splits:
    """Training and validation rows; no normalised sentence is in both, or in two classes."""

    train: tuple[Row, ...]
    validation: tuple[Row, ...]


def normalise(text: str) -> str:
    """The words of `text` in lower case: two rows with equal words count as the same sentence."""
    return " ".join(_WORD.findall(text.lower()))


def first_sentence(docstring: str) -> str | None:
    """The first sentence of a docstring with package names masked, or None if it is no sentence worth a row."""
    paragraph = " ".join(docstring.strip().split("\n\n", maxsplit=1)[0].split())
    sentence = _SENTENCE_END.split(paragraph, maxsplit=1)[0]
    letters = len(_LETTERS.findall(sentence))
    if not MIN_WORDS <= len(sentence.split()) <= MAX_WORDS or letters < _MIN_LETTER_SHARE * len(sentence):
        return None
    return _NAMES.sub(_PLACEHOLDER, sentence)


def build(
    packages: Sequence[str] = PACKAGES, *, train_rows: int = TRAIN_ROWS, validation_rows: int = VALIDATION_ROWS
) -> Splits:
    """Read installed packages and split their sentences.

    Args:
        packages: import names; those with fewer than half the wanted sentences are left out.
        train_rows: wanted per package.
        validation_rows: wanted per package.

    Raises:
        CompacterError: E801 if fewer than `MIN_CLASSES` packages have enough docstrings.
    """
    wanted = train_rows + validation_rows
    found = {package: _sentences(package, int(wanted * _READ_AHEAD)) for package in tqdm(packages, "read docstrings")}
    owners = Counter(key for sentences in found.values() for key in sentences)
    train: list[Row] = []
    validation: list[Row] = []
    classes = 0
    for package, sentences in found.items():
        own = sorted((key for key in sentences if owners[key] == 1), key=_seeded)[:wanted]
        if len(own) * 2 < wanted:
            continue
        classes += 1
        held_out = len(own) * validation_rows // wanted
        rows = [Row(sentences[key], package) for key in own]
        validation += rows[:held_out]
        train += rows[held_out:]
    if classes < MIN_CLASSES:
        raise CompacterError(
            ErrorCode.E801,
            "too few of the quickstart's packages are installed with their sources",
            value=classes,
            expected=f"at least {MIN_CLASSES} of {', '.join(packages)}",
            remedy="Install the project with its `quickstart` dependency group.",
        )
    return Splits(tuple(sorted(train, key=_row_order)), tuple(sorted(validation, key=_row_order)))


def write(splits: Splits, directory: Path) -> tuple[Path, Path]:
    """Write `train.jsonl` and `validation.jsonl` into `directory`, in the form `compacter train` reads."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = directory / "train.jsonl", directory / "validation.jsonl"
    for path, rows in zip(paths, (splits.train, splits.validation), strict=True):
        lines = (json.dumps({"text": row.text, "label": row.label}, ensure_ascii=False) for row in rows)
        atomic_write(path, ("\n".join(lines) + "\n").encode())
    return paths


def _sentences(package: str, limit: int) -> dict[str, str]:
    """Up to about `limit` different sentences of one package by their normalised form, whole files at a time."""
    found: dict[str, str] = {}
    for path in _sources(package):
        for docstring in _docstrings(path):
            sentence = first_sentence(docstring)
            if sentence is not None:
                found.setdefault(normalise(sentence), sentence)
        if len(found) >= limit:
            break
    return found


def _sources(package: str) -> list[Path]:
    """The package's Python files in a seeded order; empty if it is not installed.

    Tests are left out: their docstrings are about testing, not about what the package does.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return []
    root = Path(spec.origin).parent
    names = (path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    return [root / name for name in sorted((name for name in names if "test" not in name), key=_seeded)]


def _docstrings(path: Path) -> Iterator[str]:
    """All docstrings of a file in the order of its syntax tree; none if it does not parse."""
    with warnings.catch_warnings():
        # Old escape sequences in other people's files are not ours to report.
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring


def _seeded(text: str) -> str:
    return hashlib.sha256(f"{SEED}:{text}".encode()).hexdigest()


def _row_order(row: Row) -> str:
    return _seeded(row.text)
