"""`__metadata__` of the header: the texts of this format, and those of other tools, which are passed over."""

import json
from typing import Final

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.cursor import Cursor, shortest_length

METADATA: Final = "__metadata__"
OWN_KEYS: Final = "compacter."
"""What the keys of this format begin with."""

MAX_KEYS: Final = 1_024
MAX_KEY: Final = 512


def read_metadata(cursor: Cursor) -> dict[str, bytes]:
    """The raw texts of this format. A foreign one is checked but not kept, so that it costs nothing, however long.

    Args:
        cursor: at the value of `__metadata__`.

    Raises:
        CompacterError: E102, E103 or E104.
    """
    seen: set[str] = set()
    texts: dict[str, bytes] = {}
    for raw in cursor.members():
        if len(seen) == MAX_KEYS or shortest_length(raw) > MAX_KEY:
            raise CompacterError(
                ErrorCode.E102,
                f"{METADATA} has too many keys, or one that is too long",
                expected=f"at most {MAX_KEYS} keys of {MAX_KEY} bytes",
            )
        key, text = str(cursor.decode(raw)), cursor.string()
        if key in seen:
            raise CompacterError(ErrorCode.E104, f"{METADATA} has a duplicate key", value=key)
        seen.add(key)
        if key.startswith(OWN_KEYS):
            texts[key] = text
    return texts


def metadata_text(raw: bytes, limit: int) -> str | None:
    """The text of a raw one; None if it is sure to have more than `limit` bytes in UTF-8."""
    if shortest_length(raw) > limit:
        return None
    text: str = json.loads(raw.decode())
    return text
