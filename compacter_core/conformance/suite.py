"""A suite of cases in memory, checked byte for byte against its manifest (CNF-1, CNF-2)."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, Final, NoReturn

from compacter_core.adapter import DType
from compacter_core.conformance.case import SHAPES_OF_EXPECTATION, Case, Expectation
from compacter_core.conformance.words import Flag, Op
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import check_version

MANIFEST: Final = "manifest.json"
_ID = re.compile(r"[a-z0-9_.+-]+(/[a-z0-9_.+-]+)*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_REMEDY: Final = "Fetch the suite again, or make it with: compacter conformance generate."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Suite:
    """A suite.

    Args:
        directory: where it was read from.
        spec: version of the specification.
        manifest_sha256: identifies the suite, since the manifest holds the digest of every other file.
        cases: by id.
        files: every file but the manifest, by its path inside the suite.
    """

    directory: Path
    spec: str
    manifest_sha256: str
    cases: Mapping[str, Case]
    files: Mapping[str, bytes]


def default_suite() -> Path:
    """The vectors that came with this package, or those of the source tree it runs from.

    Raises:
        CompacterError: E005 if neither is there.
    """
    package = Path(__file__).resolve().parent
    places = (package / "vectors", package.parents[1] / "specs" / "vectors")
    for place in places:
        if (place / MANIFEST).is_file():
            return place
    raise CompacterError(
        ErrorCode.E005,
        "this installation has no test vectors",
        value=[str(place) for place in places],
        expected=f"a folder with {MANIFEST}",
        remedy="Name one with --suite DIR.",
    )


def load_suite(directory: Path | str) -> Suite:
    """The suite in a folder.

    Raises:
        CompacterError: E005 if a file cannot be read; E204 for a suite of another version; E801 if the folder is not
            what its manifest says, or a case is none.
    """
    folder = Path(directory)
    manifest_bytes = _read(folder / MANIFEST)
    manifest = _object(manifest_bytes, MANIFEST)
    check_version(manifest.get("spec"))
    digests = manifest.get("files")
    if set(manifest) != {"spec", "files"} or not isinstance(digests, dict):
        _refuse(MANIFEST, "is no manifest", sorted(manifest), 'the keys "spec" and "files"')
    files = {path: _checked(folder, path, digest) for path, digest in digests.items()}
    _refuse_strangers(folder, files)
    cases = _cases(files)
    return Suite(
        directory=folder,
        spec=manifest["spec"],
        manifest_sha256=hashlib.sha256(manifest_bytes).hexdigest(),
        cases=dict(sorted(cases.items())),
        files=files,
    )


def parse_case(value: object, place: str) -> Case:
    """The case in a JSON value; `place` names it in messages.

    Raises:
        CompacterError: E801.
    """
    known = {field.name for field in fields(Case)}
    if not isinstance(value, dict) or not set(value) <= known:
        _refuse(place, "is no case", value, "an object with keys among " + ", ".join(sorted(known)))
    try:
        dtypes = tuple(DType(dtype) for dtype in value.get("dtypes", []))
        case = Case(
            id=value["id"],
            statements=tuple(value["statements"]),
            op=Op(value["op"]),
            expect=_expectation(value["expect"], place),
            flags=frozenset(Flag(flag) for flag in value.get("flags", [])),
            dtypes=dtypes,
            files=dict(value.get("files", {})),
            args=dict(value.get("args", {})),
            comment=value.get("comment", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        _refuse(place, f"is no case ({error!r})", value.get("id"), "what schemas/cases.schema.json says", error)
    if not isinstance(case.id, str) or not _ID.fullmatch(case.id):
        _refuse(place, "has a case of this id", case.id, "words of [a-z0-9_.+-] joined by /")
    if case.op.belongs_to.has_numbers != bool(dtypes):
        _refuse(place, f"case {case.id} has these types", [*dtypes], "types exactly for operations with numbers")
    return case


def _expectation(value: object, place: str) -> Expectation:
    if not isinstance(value, dict) or len(value) != 1 or not set(value) <= set(SHAPES_OF_EXPECTATION):
        _refuse(place, "has an expectation", value, "exactly one of " + ", ".join(SHAPES_OF_EXPECTATION))
    return Expectation(**value)


def _cases(files: Mapping[str, bytes]) -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for path in sorted(path for path in files if PurePosixPath(path).parent == PurePosixPath("cases")):
        listed = _object(files[path], path)
        check_version(listed.get("spec"))
        if set(listed) != {"spec", "cases"} or not isinstance(listed["cases"], list):
            _refuse(path, "is no list of cases", sorted(listed), 'the keys "spec" and "cases"')
        for value in listed["cases"]:
            case = parse_case(value, path)
            if case.id in cases:
                _refuse(path, "has an id twice", case.id, "another id")
            _check_files(case, files, path)
            cases[case.id] = case
    if not cases:
        _refuse("cases", "holds no case", None, "cases/*.json")
    return cases


def _check_files(case: Case, files: Mapping[str, bytes], place: str) -> None:
    expected = [name for name in (case.expect.tensors, case.expect.file) if name is not None]
    for path in [*case.files.values(), *expected]:
        if path not in files:
            _refuse(place, f"case {case.id} names a file that the suite lacks", path, "a file of the manifest")


def _checked(folder: Path, path: str, digest: object) -> bytes:
    """The bytes of a file, if they have the digest that the manifest says."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or path == MANIFEST:
        _refuse(MANIFEST, "names a file", path, "a path inside the suite")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        _refuse(MANIFEST, f"has a digest for {path}", digest, "64 hexadecimal digits")
    data = _read(folder / path)
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        _refuse(path, "was changed: its SHA-256 is not the manifest's", found, digest)
    return data


def _refuse_strangers(folder: Path, files: Mapping[str, bytes]) -> None:
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    strangers = sorted(present - set(files) - {MANIFEST})
    if strangers:
        _refuse(strangers[0], "is not in the manifest", strangers, "only files of the manifest")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CompacterError(
            ErrorCode.E005, f"suite: cannot read: {error.strerror or error}", value=str(path), remedy=_REMEDY
        ) from error


def _object(data: bytes, path: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"is not JSON ({error})", data[:16], "a JSON object", error)
    if not isinstance(value, dict):
        _refuse(path, "is no JSON object", value, "a JSON object")
    return value


def _refuse(place: str, what: str, value: object, expected: str, cause: Exception | None = None) -> NoReturn:
    raise CompacterError(
        ErrorCode.E801, f"suite: {place} {what}", value=value, expected=expected, remedy=_REMEDY
    ) from cause
