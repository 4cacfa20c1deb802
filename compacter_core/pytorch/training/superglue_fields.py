"""Fields of the SuperGLUE tasks whose rows are not what their text shows."""

import re
from collections.abc import Mapping
from typing import Final

Fields = Mapping[str, object]

_TAG: Final = re.compile(r"</?b>")
_BREAK: Final = re.compile(r"<br ?/?>")
# A highlight begins a line of its own; the sentence before it may lack its end.
_HIGHLIGHT_AFTER_END: Final = re.compile(r"([.?!\"'])\n@highlight\n")
_HIGHLIGHT: Final = re.compile(r"\n@highlight\n")


def multirc(fields: Fields) -> Fields:
    """The paragraph without its HTML."""
    return {**fields, "paragraph": _BREAK.sub(" ", _TAG.sub("", str(fields.get("paragraph", ""))))}


def record(fields: Fields) -> Fields:
    """The passage with its highlights as sentences, and the entities in one text."""
    passage = _HIGHLIGHT.sub(". ", _HIGHLIGHT_AFTER_END.sub(r"\1 ", str(fields.get("passage", ""))))
    entities = fields.get("entities")
    listed = ", ".join(str(one) for one in entities) if isinstance(entities, list) else entities
    return {**fields, "passage": passage, "entities": listed}


def wsc(fields: Fields) -> Fields:
    """The text with `*` around the noun and `#` around the pronoun, whose places are counted in words."""
    words = str(fields.get("text", "")).split(" ")
    for span, mark in (("span1", "*"), ("span2", "#")):
        index, text = fields.get(f"{span}_index"), fields.get(f"{span}_text")
        if isinstance(index, int) and isinstance(text, str):
            last = index + len(text.split()) - 1
            if 0 <= index <= last < len(words):
                words[index] = f"{mark} {words[index]}"
                words[last] = f"{words[last]} {mark}"
    return {**fields, "text": " ".join(words)}
