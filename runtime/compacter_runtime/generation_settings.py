"""The tokens with which a model begins and ends what it writes, from the files beside its graphs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from compacter_core.errors import CompacterError, ErrorCode

_FILES: Final = ("config.json", "generation_config.json")


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """Tokens with a meaning.

    Args:
        start: with which a decoder behind an encoder begins.
        ends: after which a row is over.
        padding: what follows an end.
        first: what must be written first, if anything.
        last: what must stand at the very end of a row that is as long as allowed, if anything.
    """

    start: int | None
    ends: tuple[int, ...]
    padding: int
    first: int | None = None
    last: int | None = None

    @classmethod
    def of(cls, directory: Path) -> Self:
        """The settings in a directory, as transformers reads them: generation_config.json before config.json.

        Raises:
            CompacterError: E704 for a file that is no JSON object.
        """
        found: dict[str, Any] = {}
        for name in _FILES:
            found |= {key: value for key, value in _read(directory / name).items() if value is not None}
        ends = found.get("eos_token_id", ())
        ends = tuple(ends) if isinstance(ends, list | tuple) else (ends,)
        return cls(
            start=found.get("decoder_start_token_id", found.get("bos_token_id")),
            ends=ends,
            padding=found.get("pad_token_id", ends[0] if ends else 0),
            first=found.get("forced_bos_token_id"),
            last=found.get("forced_eos_token_id"),
        )


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CompacterError(ErrorCode.E704, "a file beside the model cannot be read", value=str(path)) from error
    if not isinstance(found, dict):
        raise CompacterError(ErrorCode.E704, "a file beside the model is no JSON object", value=str(path))
    return found
