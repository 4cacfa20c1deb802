"""A text classification data set that every machine has: which Python package do these docstrings come from?

A row is the first sentences of three docstrings that follow each other in one source file of an installed package, read
without importing it. Package names are masked, so that a row cannot be solved by reading its answer off. No file has
rows in two splits, no sentence is in two rows. The choice depends only on the installed packages and on `SEED`: files
are ordered by a seeded hash.

The splits have one use each: training rows teach, validation rows choose the epoch and the settings, test rows are
looked at once, for the number that is reported.
"""

import ast
import hashlib
import importlib.util
import json
import re
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tqdm import tqdm

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_write

SEED: Final = 1
# The packages of the quickstart's environment by the rows they have (torch 3,073, networkx 393), most first; the first
# eight that have enough are the classes. The ninth steps in where another version of one above has too few.
PACKAGES: Final = (
    "torch",
    "sympy",
    "transformers",
    "pandas",
    "matplotlib",
    "pip",
    "huggingface_hub",
    "numpy",
    "networkx",
)
CLASSES: Final = 8
# Per class: validation and test rows are balanced, training rows are what is left, within these limits. The smallest
# sizes together are a little less than what the eighth package has.
SIZES: Final = {"test": 100, "validation": 80, "train": 250}
MIN_TRAIN: Final = 200
SENTENCES: Final = 3
MIN_WORDS: Final = 6
MAX_WORDS: Final = 24

# More is read than needed, since sentences that two packages share are dropped afterwards.
_READ_AHEAD: Final = 1.2
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
_HOLD_DEFINITIONS: Final = (ast.stmt, ast.excepthandler, ast.match_case)


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """Some sentences and the package they come from."""

    text: str
    label: str


Splits = dict[str, tuple[Row, ...]]
"""Rows by the name of their split; no normalised sentence is in two rows."""


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
    packages: Sequence[str] = PACKAGES, *, sizes: Mapping[str, int] = SIZES, min_train: int = MIN_TRAIN
) -> Splits:
    """Read installed packages, and make rows of their sentences.

    Args:
        packages: import names; the first `CLASSES` of them with enough sentences are the classes.
        sizes: rows per package and split. Splits are filled in this order, each from files of its own; the last one
            takes what there is, but no less than `min_train`.
        min_train: see above.

    Raises:
        CompacterError: E801 if fewer than `CLASSES` packages have enough docstrings.
    """
    wanted = int(sum(sizes.values()) * _READ_AHEAD)
    found = {package: _files(package, wanted) for package in tqdm(packages, "read docstrings")}
    owners = Counter(key for files in found.values() for file in files for key in file)
    needed = {**sizes, list(sizes)[-1]: min_train}
    rows: dict[str, list[Row]] = {split: [] for split in sizes}
    classes = 0
    for package, files in found.items():
        unique = [[text for key, text in file.items() if owners[key] == 1] for file in files]
        parts = _deal([[Row(text, package) for text in _groups(file)] for file in unique], sizes)
        if classes < CLASSES and all(len(parts[split]) >= size for split, size in needed.items()):
            classes += 1
            for split, part in parts.items():
                rows[split] += part
    if classes < CLASSES:
        raise CompacterError(
            ErrorCode.E801,
            "too few of the quickstart's packages are installed with their sources",
            value=classes,
            expected=f"at least {CLASSES} of {', '.join(packages)}",
            remedy="Install the project with its `quickstart` dependency group.",
        )
    return {split: tuple(sorted(part, key=_row_order)) for split, part in rows.items()}


def split_paths(directory: Path) -> dict[str, Path]:
    """Where the splits lie in a directory."""
    return {split: directory / f"{split}.jsonl" for split in SIZES}


def write(splits: Splits, directory: Path) -> dict[str, Path]:
    """Write the splits into `directory`, in the form `compacter train` reads."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = split_paths(directory)
    for split, rows in splits.items():
        lines = (json.dumps({"text": row.text, "label": row.label}, ensure_ascii=False) for row in rows)
        atomic_write(paths[split], ("\n".join(lines) + "\n").encode())
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


def _deal(files: Sequence[list[Row]], sizes: Mapping[str, int]) -> dict[str, list[Row]]:
    """The rows of whole files, dealt to one split after the other; only the last split may take a part of a file.

    A file with more rows than a split still has room for goes to a later one.
    """
    rest, last = list(files), list(sizes)[-1]
    parts: dict[str, list[Row]] = {}
    for split, size in sizes.items():
        part: list[Row] = []
        later: list[list[Row]] = []
        for file in rest:
            room = size - len(part)
            if len(file) <= room or split == last:
                part += file[:room]
            else:
                later.append(file)
        parts[split], rest = part, later
    return parts


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
    """All docstrings of a file, outer ones first; none if it does not parse."""
    with warnings.catch_warnings():
        # Old escape sequences in other people's files are not ours to report.
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return
    nodes: deque[ast.AST] = deque([tree])
    while nodes:
        node = nodes.popleft()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
        # Unlike ast.walk this leaves out expressions, most of a tree, which hold no definitions.
        nodes.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, _HOLD_DEFINITIONS))


def _seeded(text: str) -> str:
    return hashlib.sha256(f"{SEED}:{text}".encode()).hexdigest()


def _row_order(row: Row) -> str:
    return _seeded(row.text)
