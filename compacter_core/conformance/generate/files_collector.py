"""Adds cases about files to a suite: the file, the case, and the statements behind its error code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from compacter_core.conformance.case import Case, Expectation
from compacter_core.conformance.generate.builder import Builder
from compacter_core.conformance.generate.files_bytes import JsonObject, RawFile, RawTensor, Recipe, container
from compacter_core.conformance.generate.files_statements import BY_CODE
from compacter_core.conformance.words import Flag, Op

SAFETENSORS: Final = ".safetensors"
RECIPE: Final = ".recipe.json"

Content = bytes | RawFile | Recipe


@dataclass(frozen=True, slots=True)
class Collector:
    """Cases about files, on top of a suite in the making.

    Args:
        builder: takes cases and files.
    """

    builder: Builder

    def accept(
        self,
        name: str,
        file: RawFile,
        statements: Sequence[str],
        comment: str,
        *,
        data: bytes | Recipe | None = None,
        profile: bytes | None = None,
        flags: frozenset[Flag] = frozenset(),
    ) -> None:
        """A file that is read; `data` where its bytes are not those of `file.encoded()`."""
        self._read(
            f"read/valid/{name}",
            file.encoded() if data is None else data,
            Expectation(value=file.value()),
            statements,
            comment,
            profile=profile,
            flags=flags,
        )

    def refuse(
        self,
        code: str,
        name: str,
        file: Content,
        comment: str,
        *,
        statements: Sequence[str] = (),
        profile: bytes | None = None,
        flags: frozenset[Flag] = frozenset(),
    ) -> None:
        """A file that is refused with `code`; without statements they are those behind the code."""
        self._read(
            f"read/{code.lower()}/{name}",
            file.encoded() if isinstance(file, RawFile) else file,
            Expectation(code=code),
            tuple(statements) or BY_CODE[code],
            comment,
            profile=profile,
            flags=flags,
        )

    def match(
        self,
        name: str,
        file: RawFile,
        weights: Mapping[str, RawTensor],
        backbone: JsonObject,
        comment: str,
        *,
        code: str | None = None,
        statements: Sequence[str] = (),
    ) -> None:
        """An adapter against a backbone (CNF-6); `code` where it does not fit."""
        case_id = f"match/{'valid' if code is None else code.lower()}/{name}"
        files = {"adapter": self.store(f"{case_id}.adapter", file.encoded())}
        files["weights"] = self.store(f"{case_id}.weights", container(None, weights))
        self.add(
            case_id,
            Op.MATCH,
            Expectation(value={}) if code is None else Expectation(code=code),
            tuple(statements) or BY_CODE[str(code)],
            comment,
            files=files,
            args={"backbone": backbone},
        )

    def store(self, name: str, data: bytes | Recipe, suffix: str = SAFETENSORS) -> str:
        """Add a file and return its path inside the suite."""
        if isinstance(data, Recipe):
            return self.builder.file(f"{name}{suffix}{RECIPE}", data.json())
        return self.builder.file(f"{name}{suffix}", data)

    def add(
        self,
        case_id: str,
        op: Op,
        expect: Expectation,
        statements: Sequence[str],
        comment: str,
        *,
        files: Mapping[str, str],
        args: Mapping[str, Any] | None = None,
        flags: frozenset[Flag] = frozenset(),
    ) -> None:
        """Add a case without numbers."""
        self.builder.case(
            Case(
                id=case_id,
                statements=tuple(dict.fromkeys(statements)),
                op=op,
                expect=expect,
                flags=flags,
                files=files,
                args=args or {},
                comment=comment,
            )
        )

    def _read(
        self,
        case_id: str,
        data: bytes | Recipe,
        expect: Expectation,
        statements: Sequence[str],
        comment: str,
        *,
        profile: bytes | None,
        flags: frozenset[Flag],
    ) -> None:
        files = {"adapter": self.store(case_id, data)}
        if profile is not None:
            files["profile"] = self.store(f"{case_id}.adapter_config", profile, ".json")
        self.add(case_id, Op.READ, expect, statements, comment, files=files, flags=flags)
