"""Text of an implementation, made safe for terminals, logs and files: it is a stranger's."""

from typing import Final

LIMIT: Final = 4_000


def printable(text: str, limit: int = LIMIT) -> str:
    """The lines of the text with control characters and unpaired surrogates as escapes, at most `limit` characters."""
    shown = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return "\n".join(map(_escaped, shown.split("\n")))


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)
