"""Bytes read as a list of edits to a valid file, so that a fuzzer reaches what lies behind the first checks."""

import json
from copy import deepcopy
from typing import Any, Final

from tests.format.builders import join, split
from tests.fuzz.samples import configs, files, words

_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, [], {}, "", [[]], {"": {}}, {"must_understand": False}, [0, 0]),
    *(0, 1, -1, 2, 3, 4, 5, 8, 16, 255, 256, 257, 1024, 65_536, 65_537, 99_999, 100_000),
    *(2**31 - 1, 2**31, 2**53 - 1, 2**53, -(2**53), 2**63, 2**64 - 1, 2**64),
    *(0.0, -0.0, 1.5, 1e-320, 1e308, -1e308, float("inf"), float("nan")),
    *("\ud800", "größer", "a\nb", "\x1b[2J", "../a", "a.b", "bias", "x" * 513),
)


class Choices:
    """Decisions taken from bytes, one after the other; when they are used up, every decision is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def below(self, count: int) -> int:
        """A number below `count`."""
        width = 1 if count <= 2**8 else 2
        value = int.from_bytes(self._data[self._position : self._position + width], "little")
        self._position += width
        return value % count


def edited_config(data: bytes) -> str:
    """A configuration after the edits in `data`."""
    choices = Choices(data)
    value = json.loads(configs()[choices.below(len(configs()))])
    _edit(value, choices)
    return _edit_text(json.dumps(value, ensure_ascii=bool(choices.below(2))), choices)


def edited_file(data: bytes) -> bytes:
    """A file after the edits in `data`: of its header, of its configuration, or of its tensors' bytes."""
    choices = Choices(data)
    header, body = split(files()[choices.below(len(files()))])
    what = choices.below(4)
    if what in (1, 3):
        config = json.loads(header["__metadata__"]["compacter.config"])
        _edit(config, choices)
        header["__metadata__"]["compacter.config"] = json.dumps(config)
    if what in (0, 3):
        _edit(header, choices)
    text = json.dumps(header)
    if what == 2:
        changed = bytearray(body)
        for _ in range(1 + choices.below(4)):
            changed[choices.below(len(changed))] = choices.below(256)
        body = bytes(changed)
    else:
        text = _edit_text(text, choices)
    return join(text.encode(errors="surrogatepass"), body)


def edited_header(data: bytes) -> bytes:
    """A file with a small header after the edits in `data`; its body has the size that the last tensor asks for."""
    choices = Choices(data)
    header: dict[str, Any] = {}
    end = 0
    for i in range(choices.below(4)):
        dtype, size = (("F32", 4), ("BF16", 2), ("F64", 8), ("F16", 2))[choices.below(4)]
        shape = [1 + choices.below(3) for _ in range(choices.below(5))]
        begin = end
        for dimension in shape:
            size *= dimension
        end += size
        header[f"{'abcd'[i]}.w"] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    if choices.below(2):
        header["__metadata__"] = {"format": "pt", "compacter.x": "y"}
    if choices and header:
        _edit(header, choices)
    return join(_edit_text(json.dumps(header), choices).encode(errors="surrogatepass"), bytes(end))


def _edit(root: Any, choices: Choices) -> None:
    """One to four times: replace, remove, rename, repeat or swap a value somewhere in the tree."""
    for _ in range(1 + choices.below(4)):
        places = list(_places(root))
        if not places:
            return
        parent, key = places[choices.below(len(places))]
        match choices.below(6):
            case 0 | 1:
                parent[key] = _value(choices)
            case 2:
                del parent[key]
            case 3 if isinstance(parent, dict):
                parent[_word(choices)] = parent.pop(key)
            case 3 | 4:
                other, place = places[choices.below(len(places))]
                parent[key] = json.loads(json.dumps(other[place]))
            case _ if isinstance(parent, dict):
                parent[_word(choices)] = _value(choices)
            case _:
                parent.insert(key, parent[key])


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _places(item)


def _value(choices: Choices) -> Any:
    index = choices.below(len(_VALUES) + 3)
    if index < len(_VALUES):
        return deepcopy(_VALUES[index])
    if index == len(_VALUES):
        return _word(choices)
    if index == len(_VALUES) + 1:
        return choices.below(2**16) - 2**15
    nested: Any = 0
    for _ in range(choices.below(20)):
        nested = [nested] if choices.below(2) else {"a": nested}
    return nested


def _word(choices: Choices) -> str:
    return words()[choices.below(len(words()))]


def _edit_text(text: str, choices: Choices) -> str:
    """Now and then: a few characters replaced, removed, doubled or inserted, so that the JSON itself breaks."""
    for _ in range(max(0, choices.below(8) - 5)):
        at = choices.below(len(text) + 1)
        match choices.below(4):
            case 0:
                text = text[:at] + text[at + 1 :]
            case 1:
                text = text[:at] + chr(choices.below(256)) + text[at + 1 :]
            case 2:
                text = text[:at] + '{}[]:,"\\ 0-e.'[choices.below(13)] + text[at:]
            case _:
                text = text[:at] + text[at : at + 1 + choices.below(64)] + text[at:]
    return text
