"""Collects cases and their files, and writes them as a suite with its manifest (CNF-1)."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compacter_core.config import SPEC_VERSION
from compacter_core.conformance.case import Case, Expectation
from compacter_core.conformance.words import Op
from compacter_core.errors import CompacterError, ErrorCode

MANIFEST = "manifest.json"


class Builder:
    """A suite in the making: path inside the suite to bytes."""

    def __init__(self) -> None:
        self._cases: dict[str, Case] = {}
        self._files: dict[str, bytes] = {}

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases so far, by id."""
        return tuple(case for _, case in sorted(self._cases.items()))

    @property
    def files(self) -> Mapping[str, bytes]:
        """All files so far, by path inside the suite."""
        return self._files

    def file(self, name: str, data: bytes) -> str:
        """Add the file `files/<name>` and return that path; the same content may be added again.

        Raises:
            CompacterError: E001 if the name stands for other bytes already.
        """
        path = f"files/{name}"
        if self._files.setdefault(path, data) != data:
            raise CompacterError(ErrorCode.E001, "two files of the suite have one name", value=path)
        return path

    def case(self, case: Case) -> None:
        """Add a case.

        Raises:
            CompacterError: E001 for an id that is taken.
        """
        if case.id in self._cases:
            raise CompacterError(ErrorCode.E001, "two cases have one id", value=case.id)
        self._cases[case.id] = case

    def contents(self) -> dict[str, bytes]:
        """Every file of the suite, the case lists and the manifest included."""
        contents = dict(self._files)
        for op in Op:
            cases = [case_to_json(case) for case in self.cases if case.op is op]
            if cases:
                contents[f"cases/{op.value}.json"] = json_bytes({"spec": SPEC_VERSION, "cases": cases})
        digests = {path: hashlib.sha256(data).hexdigest() for path, data in sorted(contents.items())}
        return contents | {MANIFEST: json_bytes({"spec": SPEC_VERSION, "files": digests})}

    def write(self, directory: Path) -> None:
        """Write the suite into an empty or new directory."""
        for path, data in self.contents().items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def json_bytes(value: object) -> bytes:
    """Indented JSON that is the same for equal values."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def case_to_json(case: Case) -> dict[str, Any]:
    """A case as JSON, empty fields left out."""
    value: dict[str, Any] = {
        "id": case.id,
        "statements": list(case.statements),
        "op": case.op.value,
        "flags": sorted(case.flags),
        "dtypes": list(case.dtypes),
        "files": dict(case.files),
        "args": dict(case.args),
        "comment": case.comment,
        "expect": _expectation(case.expect),
    }
    return {key: item for key, item in value.items() if item or key == "expect"}


def _expectation(expect: Expectation) -> dict[str, Any]:
    fields = {
        "code": expect.code,
        "value": expect.value,
        "tensors": expect.tensors,
        "file": expect.file,
        "distribution": expect.distribution,
    }
    return {name: value for name, value in fields.items() if value is not None}
