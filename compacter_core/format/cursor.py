"""JSON read member by member, from bytes, so that a long text is never held as a tree of Python objects.

The header of a file may have 16 MiB. Parsed at once, `[[],[],…]` of that length would take a gigabyte; here a value is
looked at only after its extent is known and found short enough.
"""

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import NoReturn

from compacter_core.errors import CompacterError
from compacter_core.format.strict_json import MAX_DEPTH, Rules, parse_value, refuse_depth

_CHUNK = 2**16
_OPENING = frozenset(b"[{")
_CLOSING = frozenset(b"]}")
_ENDING = frozenset(b",]}")
_STRING = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*+)*+"'
_SPACE = rb"[ \t\n\r]*+"
_KEY = re.compile(_SPACE + rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE)
_WHOLE_STRING = re.compile(_SPACE + rb"(" + _STRING + rb")" + _SPACE)
_BLANK = re.compile(_SPACE)
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)
"""A whole string, a bracket, a comma, or the quote of an unterminated string."""


def shortest_length(raw: bytes) -> int:
    """The least length that a raw string can have in UTF-8: an escape of at most six bytes stands for one or more."""
    return len(raw) - 2 - 5 * raw.count(b"\\")


class Cursor:
    """A place in a JSON text that moves forward.

    Args:
        data: bytes that contain the text.
        begin: where the text begins.
        end: where it ends.
        rules: codes and wording of rejections.

    Raises:
        CompacterError: the code `rules.malformed` for a text that is not UTF-8.
    """

    def __init__(self, data: bytes, begin: int, end: int, rules: Rules) -> None:
        self._data = data
        self._position = begin
        self._begin, self._end = begin, end
        self._rules = rules
        self._check_utf8()

    def members(self) -> Iterator[bytes]:
        """The raw keys, quotes included, of the object that begins here; each time the cursor is at the value.

        Whoever iterates has to consume the value: `value`, `string` or `members`.

        Raises:
            CompacterError: the code `rules.malformed`.
        """
        self._expect(b"{")
        if self._accept(b"}"):
            return
        while True:
            match = _KEY.match(self._data, self._position, self._end)
            if match is None:
                self._refuse()
            self._position = match.end()
            yield match.group(1)
            if not self._accept(b","):
                self._expect(b"}")
                return

    def string(self) -> bytes:
        """The raw string that begins here, quotes included, valid but not decoded.

        Raises:
            CompacterError: the code `rules.malformed` for anything else.
        """
        match = _WHOLE_STRING.match(self._data, self._position, self._end)
        if match is None:
            self._refuse()
        self._position = match.end()
        return match.group(1)

    def value(self, limit: int) -> bytes | None:
        """The text of the value that begins here, whatever it is; None if it is longer than `limit` bytes.

        Raises:
            CompacterError: the codes of `rules` for one that is nested too deeply or does not end.
        """
        depth, begin = 0, self._position
        stop = min(self._end, begin + limit + 1)
        for match in _TOKEN.finditer(self._data, begin, stop):
            token = self._data[match.start()]
            if token in _OPENING:
                depth += 1
                if depth == MAX_DEPTH:  # and one more, the object that this is a value of
                    refuse_depth(self._rules)
            elif depth == 0 and token in _ENDING:
                self._position = match.start()
                return self._data[begin : match.start()]
            elif token in _CLOSING:
                depth -= 1
            elif match.group() == b'"':
                break
        if stop == self._end:
            self._refuse()
        return None

    def finish(self) -> None:
        """Check that nothing but white space follows.

        Raises:
            CompacterError: the code `rules.malformed`.
        """
        self._skip()
        if self._position < self._end:
            self._refuse()

    def decode(self, text: bytes) -> object:
        """The value of a text that `members`, `string` or `value` gave.

        Raises:
            CompacterError: E104, or the codes of `rules`.
        """
        return parse_value(text.decode(), self._rules)

    def _skip(self) -> None:
        match = _BLANK.match(self._data, self._position, self._end)
        self._position = match.end() if match else self._position

    def _accept(self, token: bytes) -> bool:
        self._skip()
        if self._data[self._position : min(self._position + 1, self._end)] != token:
            return False
        self._position += 1
        self._skip()
        return True

    def _expect(self, token: bytes) -> None:
        if not self._accept(token):
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise CompacterError(
            self._rules.malformed,
            f"{self._rules.what} is not the JSON that belongs there",
            value=f"{self._data[self._position : min(self._position + 16, self._end)]!r} "
            f"at byte {self._position - self._begin}",
        )

    def _check_utf8(self) -> None:
        """Decode in pieces: the whole as one string may take four bytes a character."""
        decoder = getincrementaldecoder("utf-8")()
        try:
            for begin in range(self._begin, self._end, _CHUNK):
                decoder.decode(self._data[begin : min(begin + _CHUNK, self._end)])
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise CompacterError(
                self._rules.malformed, f"{self._rules.what} is not UTF-8", value=error.reason
            ) from error
