"""Who cites which statement: cases of the suite, and tests by their markers."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CODE = re.compile(r"\bE[0-9]{3}\b")


@dataclass(frozen=True)
class Citation:
    """A statement's id and the place that cites it."""

    statement: str
    place: str


def cases(vectors: Path) -> list[dict[str, Any]]:
    """All cases of a suite."""
    found: list[dict[str, Any]] = []
    for path in sorted((vectors / "cases").glob("*.json")):
        found += json.loads(path.read_text(encoding="utf-8"))["cases"]
    return found


def cited_by_cases(vectors: Path) -> Iterator[Citation]:
    """The citations of a suite."""
    for case in cases(vectors):
        for statement in case["statements"]:
            yield Citation(statement, f"case {case['id']}")


def cited_by_tests(folder: Path) -> Iterator[Citation]:
    """The citations of the markers `pytest.mark.spec("…")` under a folder."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.spec":
                for argument in node.args:
                    value = argument.value if isinstance(argument, ast.Constant) else ast.unparse(argument)
                    yield Citation(str(value), f"{path.relative_to(folder)}:{node.lineno}")


def codes_in_tests(folder: Path) -> set[str]:
    """The error codes that tests name as `ErrorCode.E…` or in a text."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ErrorCode":
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(_CODE.findall(node.value))
    return found
