"""JSON text of any size, read one value after another: only a window of it is in memory.

The window holds what is left of the last piece, and the next one; a value that is larger makes it grow to twice its
size as often as needed. Called for datasets that are one large array (`testbench.sources.formats.json`) and for
evaluated experiments (`testbench.schema.evaluated_file`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, TextIO

PIECE_CHARACTERS: Final = 1 << 20

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_REST_OF_A_NUMBER = re.compile(r"[0-9.eE+-]*")


class JsonSyntaxError(ValueError):
    """Text that is not JSON, or not of the shape that was asked for; `line` counts from 1."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.line = line


class JsonStream:
    """A place in JSON text, moved forward by what is read there.

    Every method may raise a UnicodeDecodeError, where the text is not in its encoding.
    """

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._window = ""
        self._position = 0
        self.line = 1
        """The line of this place."""

    def peek(self) -> str:
        """Return the next character that is not white space, without passing it; an empty text at the end."""
        while True:
            space = _SPACE.match(self._window, self._position)
            self._move_to(space.end() if space else self._position)
            if self._position < len(self._window) or not self._read_more():
                return self._window[self._position : self._position + 1]

    def take(self, *expected: str) -> str:
        """Return the next character that is not white space, and pass it.

        Raises:
            JsonSyntaxError: it is none of those expected.
        """
        found = self.peek()
        if found not in expected:
            raise self.fault(f"expected {' or '.join(expected)}, found {found or 'the end'}")
        self._move_to(self._position + 1)
        return found

    def read_value(self) -> Any:
        """Return the value that begins here, and pass it.

        Raises:
            JsonSyntaxError: there is none.
        """
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._window, self._position)
            except json.JSONDecodeError as error:
                if self._read_more():
                    continue
                self._move_to(error.pos)
                raise self.fault(error.msg) from error
            except RecursionError as error:
                raise self.fault("nested too deeply") from error
            except ValueError as error:  # a number with too many digits
                raise self.fault(str(error)) from error
            if _REST_OF_A_NUMBER.fullmatch(self._window, end) and self._read_more():
                continue  # it may be cut off anywhere: `0.` is read as 0
            self._move_to(end)
            return value

    def read_items(self) -> Iterator[tuple[Any, int]]:
        """Yield the items of the array that begins here, each with the line where it begins.

        Raises:
            JsonSyntaxError: there is no array, or it is broken.
        """
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            self.peek()
            line = self.line
            yield self.read_value(), line
            if self.peek() not in (",", "]"):
                raise self.fault("a comma or the end of the array is missing")
            if self.take(",", "]") == "]":
                return

    def check_end(self) -> None:
        """Check that nothing but white space follows.

        Raises:
            JsonSyntaxError: something does.
        """
        if self.peek():
            raise self.fault("something follows the end")

    def fault(self, reason: str) -> JsonSyntaxError:
        """Return an error at this place."""
        return JsonSyntaxError(reason, self.line)

    def _move_to(self, position: int) -> None:
        self.line += self._window.count("\n", self._position, position)
        self._position = position

    def _read_more(self) -> bool:
        rest = self._window[self._position :]
        piece = self._text.read(max(PIECE_CHARACTERS, len(rest)))
        self._window, self._position = rest + piece, 0
        return bool(piece)
