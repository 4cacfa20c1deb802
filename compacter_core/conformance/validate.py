"""Checks of a suite by itself, before any implementation is asked: `compacter conformance validate`.

Unlike reading a suite to run it, which ends at the first fault, this finds all of them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from compacter_core.conformance.findings import Contents, Finding
from compacter_core.conformance.schemas import violations
from compacter_core.conformance.specification import file_codes, statements
from compacter_core.conformance.validate_tensors import check_expectations, check_inputs
from compacter_core.errors import CompacterError, ErrorCode

MANIFEST: Final = "manifest.json"
LARGEST: Final = 8_000_000
"""Bytes of all files of a suite together."""


def validate(directory: Path | str) -> tuple[Finding, ...]:
    """Everything that is wrong with a suite; nothing for a right one.

    Raises:
        CompacterError: E004 without the package jsonschema; E005 if there is no suite.
    """
    contents, findings = _read(Path(directory))
    for check in _CHECKS:
        findings += check(contents)
    return tuple(findings)


def _read(directory: Path) -> tuple[Contents, list[Finding]]:
    """The suite's files, and what keeps some of them from being looked at."""
    if not (directory / MANIFEST).is_file():
        raise CompacterError(ErrorCode.E005, "no suite", value=str(directory), expected=f"a folder with {MANIFEST}")
    files = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    findings: list[Finding] = []
    parsed = {}
    for path, data in files.items():
        if path == MANIFEST or path.startswith("cases/") or path.endswith(".recipe.json"):
            try:
                parsed[path] = json.loads(data)
            except ValueError as error:
                findings.append(Finding(path, f"is not JSON: {error}"))
    cases = [
        (path, case)
        for path, value in parsed.items()
        if path.startswith("cases/") and isinstance(value, dict)
        for case in _listed(value)
    ]
    return Contents(files, parsed, cases), findings


def _listed(value: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The cases of a list that can be looked at; the schema tells about the others."""
    cases = value.get("cases")
    return [case for case in cases if isinstance(case, dict)] if isinstance(cases, list) else []


def _check_manifest(suite: Contents) -> Iterator[Finding]:
    """The digest of every file (CNF-1)."""
    manifest = suite.parsed.get(MANIFEST)
    digests = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(digests, dict):
        yield Finding(MANIFEST, "has no digests")
        return
    for path in sorted(digests.keys() - suite.files.keys()):
        yield Finding(path, "is in the manifest and does not exist")
    for path, data in suite.files.items():
        if path == MANIFEST:
            continue
        if path not in digests:
            yield Finding(path, "is not in the manifest")
        elif digests[path] != hashlib.sha256(data).hexdigest():
            yield Finding(path, "has another SHA-256 than in the manifest")


def _check_schemas(suite: Contents) -> Iterator[Finding]:
    """Manifest, case lists and recipes by their schemas (CNF-2)."""
    for path, value in suite.parsed.items():
        name = "manifest" if path == MANIFEST else "cases" if path.startswith("cases/") else "recipe"
        yield from (Finding(path, problem) for problem in violations(name, value))


def _check_ids(suite: Contents) -> Iterator[Finding]:
    """Each id once, in the list of its operation."""
    counts = Counter(case.get("id") for _, case in suite.cases)
    yield from (Finding(str(name), "is the id of several cases") for name, count in counts.items() if count > 1)
    for path, case in suite.cases:
        if path != f"cases/{case.get('op')}.json":
            yield Finding(str(case.get("id")), f"stands in {path} and has the operation {case.get('op')}")


def _check_files(suite: Contents) -> Iterator[Finding]:
    """Each file of a case exists, and each file belongs to one."""
    used = set()
    for _, case in suite.cases:
        for path in suite.paths(case):
            used.add(path)
            if path not in suite.files:
                yield Finding(str(case.get("id")), f"names {path}, which does not exist")
    for path in suite.files:
        if path.startswith("files/") and path not in used:
            yield Finding(path, "belongs to no case")


def _check_statements(suite: Contents) -> Iterator[Finding]:
    """Each cited statement is one of the specification, where that lies beside the suite."""
    known = statements()
    if known is None:
        return
    for _, case in suite.cases:
        cited = case.get("statements")
        for statement in cited if isinstance(cited, list) else []:
            if statement not in known:
                yield Finding(str(case.get("id")), f"cites {statement}, which is no statement of the specification")


def _check_codes(suite: Contents) -> Iterator[Finding]:
    """Each file code has a case (ERR-3)."""
    expected = {suite.expectation(case).get("code") for _, case in suite.cases}
    yield from (Finding(code, "is the expectation of no case") for code in file_codes() if code not in expected)


def _check_size(suite: Contents) -> Iterator[Finding]:
    size = sum(map(len, suite.files.values()))
    if size > LARGEST:
        yield Finding("suite", f"has {size} bytes, over {LARGEST}")


_CHECKS: Final[tuple[Callable[[Contents], Iterator[Finding]], ...]] = (
    _check_manifest,
    _check_schemas,
    _check_ids,
    _check_files,
    _check_statements,
    _check_codes,
    _check_size,
    check_expectations,
    check_inputs,
)
