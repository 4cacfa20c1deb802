"""The documents of `specs/` as data: statements, tables, headings and links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "specs"

STATEMENT_ID = re.compile(r"\b(CNV|FWD|PLC|GRD|INI|NUM|FMT|CFG|SKT|ERR|ONX|LNK|CNF|VER|SEC)-([0-9]+)\b")

_STATEMENT = re.compile(r"^- \*\*\[([A-Z]{3}-[0-9]+)\]\*\* ", re.MULTILINE)
_END_OF_STATEMENT = re.compile(r"\n(?=\S)|\n\n(?!  )")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_IN_BRACKETS = re.compile(r"\[([^\]]*)\]")
_CODE = re.compile(r"\bE[0-9]{3}\b")


@dataclass(frozen=True)
class Statement:
    """One numbered statement."""

    id: str
    text: str
    document: str

    @property
    def prefix(self) -> str:
        """The letters of the id."""
        return self.id.partition("-")[0]

    @property
    def number(self) -> int:
        """The number of the id."""
        return int(self.id.partition("-")[2])

    @property
    def codes(self) -> set[str]:
        """The error codes in brackets: those that a reader gives where the statement is broken."""
        return {code for inside in _IN_BRACKETS.findall(self.text) for code in _CODE.findall(inside)}


def documents(folder: Path = SPECS) -> dict[str, str]:
    """Text of each document by its file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))}


def statements(texts: dict[str, str]) -> list[Statement]:
    """All statements in the order of the documents: from the id to the next line that is not indented."""
    found = []
    for name, text in texts.items():
        for match in _STATEMENT.finditer(text):
            end = _END_OF_STATEMENT.search(text, match.end())
            found.append(Statement(match.group(1), text[match.end() : end.start() if end else None], name))
    return found


def links(text: str) -> list[str]:
    """The targets of a document's links."""
    return _LINK.findall(_CODE_BLOCK.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = _HEADING.findall(_CODE_BLOCK.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tables(text: str) -> Iterator[list[list[str]]]:
    """The tables of a text: their rows without the line below the header, each a list of cells."""
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            yield [rows[0], *rows[2:]]
            rows = []


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its level or above.

    Raises:
        KeyError: for a heading that the text does not have.
    """
    match = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    if match is None:
        raise KeyError(heading)
    end = re.search(rf"^#{{1,{len(match.group(1))}}} ", text[match.end() :], re.MULTILINE)
    return text[match.end() : match.end() + end.start() if end else None]
