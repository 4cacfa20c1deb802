"""What the kit knows of the specification's documents: the ids of its statements, and the file codes."""

import re
from pathlib import Path

from compacter_core.errors import ErrorCode

_DOCUMENTS = Path(__file__).resolve().parents[2] / "specs"
_STATEMENT = re.compile(r"^- \*\*\[([A-Z]{3}-[0-9]+)\]\*\* ", re.MULTILINE)
_FILE_CODE = re.compile(r"E(10[1-9]|11[0-2]|2[0-9]{2}|3[0-9]{2}|4[0-9]{2}|60[1-4])")


def statements(documents: Path = _DOCUMENTS) -> frozenset[str] | None:
    """The ids of all statements; None where the documents are not there, as in an installed package."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(documents.glob("*.md"))]
    return frozenset(found for text in texts for found in _STATEMENT.findall(text)) or None


def file_codes() -> tuple[str, ...]:
    """The codes that a file or a configuration can be refused with (ERR-3)."""
    return tuple(code.name for code in ErrorCode if _FILE_CODE.fullmatch(code.name))
