"""The shape of a batch of texts, as a user writes it."""

import re
from dataclasses import dataclass
from typing import Self

from compacter_core.errors import CompacterError, ErrorCode


@dataclass(frozen=True, slots=True)
class Shape:
    """Rows and tokens a row.

    Args:
        batch: rows.
        length: tokens of each.
    """

    batch: int
    length: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `8x128`.

        Raises:
            CompacterError: E001 for anything else.
        """
        found = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text)
        if found is None:
            raise CompacterError(
                ErrorCode.E001, "not a shape of a batch", value=text, expected="rows x tokens, as in 8x128"
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.batch}x{self.length}"
