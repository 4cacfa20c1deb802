"""A text classification data set that every machine has: which Python package do these docstrings come from?

A row is the first sentences of three docstrings that follow each other in one source file of an installed package, read
without importing it. Package names are masked, so that a row cannot be solved by reading its answer off. No file has
rows in both splits, no sentence is in two rows. The choice depends only on the installed packages and on `SEED`: files
are ordered by a seeded hash.
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
    "onnxscript",
    "pandas",
    "sympy",
    "transformers",
)
MIN_CLASSES: Final = 8
TRAIN_ROWS: Final = 200
VALIDATION_ROWS: Final = 80
SENTENCES: Final = 3
MIN_WORDS: Final = 6
MAX_WORDS: Final = 24

# More is read than needed, since sentences that two packages share and the rest of a file are dropped afterwards.
_READ_AHEAD: Final = 1.4
_PLACEHOLDER: Final = "library"
_ALIASES: Final = (
    "torch", "pytorch", "numpy", "hugging face", "huggingface", "hf",
    "np", "pd", "plt", "mpl", "pyplot", "nx", "onnx", "otlib",
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
    """Some sentences and the package they come from."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Splits:
    """Training and validation rows; no normalised sentence is in two of them."""

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
    """Read installed packages, and make rows of their sentences.

    Args:
        packages: import names; those with too few sentences are left out.
        train_rows: per package.
        validation_rows: per package, from files of their own.

    Raises:
        CompacterError: E801 if fewer than `MIN_CLASSES` packages have enough docstrings.
    """
    wanted = int((train_rows + validation_rows) * _READ_AHEAD)
    found = {package: _files(package, wanted) for package in tqdm(packages, "read docstrings")}
    owners = Counter(key for files in found.values() for file in files for key in file)
    train: list[Row] = []
    validation: list[Row] = []
    classes = 0
    for package, files in found.items():
        unique = [[text for key, text in file.items() if owners[key] == 1] for file in files]
        per_file = iter([[Row(text, package) for text in _groups(file)] for file in unique])
        held_out, kept = _take(per_file, validation_rows), _take(per_file, train_rows)
        if len(held_out) == validation_rows and len(kept) == train_rows:
            classes += 1
            validation += held_out
            train += kept
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


def _files(package: str, rows: int) -> list[dict[str, str]]:
    """Sentences by their normalised form, file by file, until they make `rows` rows; none is in two files."""
    files: list[dict[str, str]] = []
    seen: set[str] = set()
    for path in _sources(package):
        sentences = filter(None, map(first_sentence, _docstrings(path)))
        fresh = {key: text for text in sentences if (key := normalise(text)) not in seen}
        seen |= fresh.keys()
        files.append(fresh)
        if sum(len(file) // SENTENCES for file in files) >= rows:
            break
    return files


def _groups(sentences: Sequence[str]) -> list[str]:
    """Texts of `SENTENCES` consecutive sentences; what is left over is dropped."""
    closed = [text if text.endswith((".", "!", "?")) else f"{text}." for text in sentences]
    last = len(closed) - SENTENCES + 1
    return [" ".join(closed[start : start + SENTENCES]) for start in range(0, last, SENTENCES)]


def _take(per_file: Iterator[list[Row]], count: int) -> list[Row]:
    """The first `count` rows; what is left of the last file is dropped, so that no file is on both sides."""
    rows: list[Row] = []
    while len(rows) < count:
        file = next(per_file, None)
        if file is None:
            break
        rows += file
    return rows[:count]


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
