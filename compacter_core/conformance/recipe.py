"""Files of the suite that are too large to be stored: a recipe says what their bytes are (conformance, suite).

A recipe is `{"segments": [...]}`; the file is the segments' bytes, one after the other. A segment is `{"text": ...}` or
`{"hex": ...}`, perhaps with `"times": n` for n repetitions. A text may have `"counters": [[start, step], ...]`: then
each `#` of the text stands for the next counter's number, in decimal digits: start + step i in repetition i.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from compacter_core.errors import CompacterError, ErrorCode

SUFFIX: Final = ".recipe.json"
COUNTER: Final = "#"
_CHUNK: Final = 2**20
_KEYS: Final = ({"text"}, {"text", "times"}, {"text", "times", "counters"}, {"hex"}, {"hex", "times"})


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes that are repeated.

    Args:
        unit: the bytes of one repetition, counters left out.
        times: how often.
        counters: start and step of each number in the unit.
    """

    unit: bytes
    times: int = 1
    counters: tuple[tuple[int, int], ...] = ()

    def __iter__(self) -> Iterator[bytes]:
        """The bytes in pieces of about a MiB at most, unless one repetition is longer."""
        if self.counters:
            parts = self.unit.split(COUNTER.encode())
            for i in range(self.times):
                numbers = [str(start + step * i).encode() for start, step in self.counters]
                yield b"".join(part + number for part, number in zip(parts, [*numbers, b""], strict=True))
            return
        per_piece = max(1, _CHUNK // max(1, len(self.unit)))
        piece = self.unit * min(self.times, per_piece)
        for _ in range(self.times // per_piece):
            yield piece
        yield self.unit * (self.times % per_piece)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return sum(map(len, self)) if self.counters else len(self.unit) * self.times


def parse_recipe(data: bytes, what: str) -> tuple[Segment, ...]:
    """The segments of a recipe.

    Args:
        data: the recipe's JSON.
        what: its name in messages.

    Raises:
        CompacterError: E801 if it is none.
    """
    try:
        return tuple(_segment(segment) for segment in json.loads(data)["segments"])
    except (KeyError, TypeError, ValueError) as error:
        raise CompacterError(
            ErrorCode.E801,
            f"suite: {what} is no recipe ({error!r})",
            value=data[:80],
            expected='{"segments": [{"hex" or "text", "times", "counters"}]}',
        ) from error


def write_recipe(segments: tuple[Segment, ...], target: Path) -> None:
    """Write the file in small pieces; zeros are left to the file system, which need not store them."""
    with target.open("wb") as stream:
        for segment in segments:
            if segment.counters or any(segment.unit):
                stream.writelines(segment)
            else:
                stream.seek(segment.size, 1)
        stream.truncate()


def _segment(segment: Mapping[str, Any]) -> Segment:
    if set(segment) not in _KEYS:
        raise ValueError(f"a segment with the keys {sorted(segment)}")
    times = segment.get("times", 1)
    if type(times) is not int or times < 0:
        raise ValueError(f"times {times!r}")
    if "hex" in segment:
        return Segment(bytes.fromhex(segment["hex"]), times)
    counters = tuple(_counter(pair) for pair in segment.get("counters", []))
    text = segment["text"]
    if not isinstance(text, str):
        raise TypeError(f"text {text!r}")
    if counters and text.count(COUNTER) != len(counters):
        raise ValueError(f"{len(counters)} counters for {text.count(COUNTER)} places")
    return Segment(text.encode(), times, counters)


def _counter(pair: Any) -> tuple[int, int]:
    start, step = pair
    if type(start) is not int or type(step) is not int:
        raise ValueError(f"a counter {pair!r}")
    return start, step
