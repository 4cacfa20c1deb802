"""A text classification data set that every machine has: which field of mathematics is this docstring about?

A row is the first sentence of a docstring in the folder of a field in SymPy or NetworkX, on which PyTorch depends; the
files are read, not imported. Names of the packages are masked. No file has rows in two splits, no sentence is in two
rows, and all fields have the same number of rows. The choice depends only on the installed packages and on `SEED`:
files are ordered by a seeded hash.

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
from types import MappingProxyType
from typing import Final

from tqdm import tqdm

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_write

SEED: Final = 1
# SymPy's largest folders that are a field of mathematics (core, printing, utilities and their like are not), and
# NetworkX's algorithms.
FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "polynomials": "sympy/polys",
        "physics": "sympy/physics",
        "group theory": "sympy/combinatorics",
        "matrices": "sympy/matrices",
        "equations": "sympy/solvers",
        "geometry": "sympy/geometry",
        "statistics": "sympy/stats",
        "integrals": "sympy/integrals",
        "graphs": "networkx/algorithms",
    }
)
# Per field; all together are what the smallest field has.
SIZES: Final = {"test": 85, "validation": 50, "train": 90}
MIN_WORDS: Final = 4
MAX_WORDS: Final = 24

_PLACEHOLDER: Final = "library"
_PACKAGES: Final = ("sympy", "networkx", "nx")
_NAMES = re.compile(f"(?<![a-z0-9])({'|'.join(_PACKAGES)})(?![a-z0-9])", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s")
_LETTERS = re.compile(r"[A-Za-z]")
_WORD = re.compile(r"[a-z0-9]+")
_MIN_LETTER_SHARE: Final = 0.6
_HOLD_DEFINITIONS: Final = (ast.stmt, ast.excepthandler, ast.match_case)


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """A sentence and the field it is about."""

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


def build(fields: Mapping[str, str] = FIELDS, *, sizes: Mapping[str, int] = SIZES) -> Splits:
    """Read installed packages, and make rows of their sentences.

    Args:
        fields: by label, a package and a folder in it.
        sizes: rows per field and split. Splits are filled in this order, each from files of its own.

    Raises:
        CompacterError: E801 if a field has too few docstrings.
    """
    found = {label: _files(folder) for label, folder in tqdm(fields.items(), "read docstrings")}
    owners = Counter(key for files in found.values() for file in files for key in file)
    rows: dict[str, list[Row]] = {split: [] for split in sizes}
    for label, files in found.items():
        unique = [[Row(text, label) for key, text in file.items() if owners[key] == 1] for file in files]
        for split, part in _deal(unique, sizes).items():
            if len(part) < sizes[split]:
                raise CompacterError(
                    ErrorCode.E801,
                    f"too few docstrings in {fields[label]} for {split} rows",
                    value=len(part),
                    expected=f"at least {sizes[split]}",
                    remedy="Install the project with its `quickstart` dependency group and its constraints.",
                )
            rows[split] += part
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


def _files(folder: str) -> list[dict[str, str]]:
    """Sentences by their normalised form, file by file; none is in two files."""
    files: list[dict[str, str]] = []
    seen: set[str] = set()
    for path in _sources(folder):
        sentences = filter(None, map(first_sentence, _docstrings(path)))
        fresh = {key: text for text in sentences if (key := normalise(text)) not in seen}
        seen |= fresh.keys()
        files.append(fresh)
    return files


def _deal(files: Sequence[list[Row]], sizes: Mapping[str, int]) -> dict[str, list[Row]]:
    """The rows of files, dealt to one split after the other; rows of one file are in one split, or dropped."""
    rest = list(files)
    parts: dict[str, list[Row]] = {}
    for split, size in sizes.items():
        chosen = _filling([len(file) for file in rest], size)
        parts[split] = [row for index in chosen for row in rest[index]][:size]
        rest = [file for index, file in enumerate(rest) if index not in chosen]
    return parts


def _filling(lengths: Sequence[int], size: int) -> tuple[int, ...]:
    """Which files fill a split with the fewest rows too many: the first such files; all, if they are too few."""
    reached: dict[int, tuple[int, ...]] = {0: ()}
    for index, length in enumerate(lengths):
        for total, chosen in list(reached.items()):
            if total < size:
                reached.setdefault(total + length, (*chosen, index))
        if size in reached:
            break
    return reached[min((total for total in reached if total >= size), default=max(reached))]


def _sources(folder: str) -> list[Path]:
    """The Python files of a folder in a package, in a seeded order; empty if it is not installed.

    Tests are left out: their docstrings are about testing, not about the field.
    """
    package, _, inside = folder.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return []
    root = Path(spec.origin).parent
    names = (path.relative_to(root).as_posix() for path in (root / inside).rglob("*.py"))
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
